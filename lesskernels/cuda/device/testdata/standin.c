// A stand-in for libcuda.so.1: it writes down every call and computes nothing. Memory of
// the device is memory of the process. Which call fails, how often it works before,
// and with which code, is set by standin_fail. With OLD, one function is missing.
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char record[1 << 16];
static size_t used;
static char failing[64];
static int after, code, version = 12040, major = 9, devices = 1;
static int capturing;
static __thread uintptr_t current; // the context of this thread; where a call is made in another one than the first card's, it is written down
static uintptr_t handles = 0x1000;
static int params[1 << 16]; // of the function with a handle: the last letter of its name

void standin_reset(void) { used = 0; record[0] = 0; failing[0] = 0; version = 12040; major = 9; devices = 1; capturing = 0; handles = 0x1000; }
void standin_fail(const char *name, int works, int with) { snprintf(failing, sizeof failing, "%s", name); after = works; code = with; }
void standin_machine(int v, int m, int n) { version = v; major = m; devices = n; }
const char *standin_record(void) { return record; }

// note writes a line and tells whether the call named by its first word fails.
static int note(const char *format, ...) {
	if (used > sizeof record / 2) used = 0;
	va_list list;
	va_start(list, format);
	char *line = record + used;
	used += vsnprintf(line, sizeof record - used, format, list);
	if (current > 0xc0 && strncmp(line, "cuD", 3) && strncmp(line, "cuInit", 6)) used += snprintf(record + used, sizeof record - used, " of card %d", (int)(current - 0xc0));
	used += snprintf(record + used, sizeof record - used, "\n");
	va_end(list);
	size_t n = strcspn(line, " \n");
	if (strlen(failing) != n || strncmp(line, failing, n) || after-- > 0) return 0;
	after = 0;
	return code;
}

#define FAIL(...) do { int failed = note(__VA_ARGS__); if (failed) return failed; } while (0)

int cuInit(unsigned flags) { FAIL("cuInit %u", flags); return 0; }
int cuDriverGetVersion(int *v) { FAIL("cuDriverGetVersion"); *v = version; return 0; }
int cuGetErrorName(int c, const char **name) {
	*name = c == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : c == 100 ? "CUDA_ERROR_NO_DEVICE" : c == 218 ? "CUDA_ERROR_INVALID_PTX" :
		c == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : c == 701 ? "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES" : c == 999 ? "CUDA_ERROR_UNKNOWN" : 0;
	return *name ? 0 : 1;
}
int cuDeviceGetCount(int *n) { FAIL("cuDeviceGetCount"); *n = devices; return 0; }
int cuDeviceGet(int *d, int i) { FAIL("cuDeviceGet %d", i); *d = 7 + i; return 0; }
int cuDeviceGetName(char *name, int n, int d) { FAIL("cuDeviceGetName %d", d); snprintf(name, n, "Stand-in"); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? major : a == 76 ? 0 : 132; (void)d; return 0; }
int cuDevicePrimaryCtxRetain(uintptr_t *c, int d) { FAIL("cuDevicePrimaryCtxRetain %d", d); *c = 0xc0 + d - 7; return 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { FAIL("cuDevicePrimaryCtxRelease %d", d); return 0; }
int cuDevicePrimaryCtxReset_v2(int d) { FAIL("cuDevicePrimaryCtxReset %d", d); return 0; }
int cuCtxSetCurrent(uintptr_t c) { if (c < 0xc0 || c >= 0xc0 + (uintptr_t)devices) return 201; current = c; return 0; }
int cuMemGetInfo_v2(size_t *f, size_t *t) { FAIL("cuMemGetInfo"); *f = (size_t)3 << 30; *t = (size_t)80 << 30; return 0; }
int cuMemAlloc_v2(uint64_t *p, size_t n) { FAIL("cuMemAlloc %zu", n); *p = (uint64_t)malloc(n); return 0; }
int cuMemFree_v2(uint64_t p) { FAIL("cuMemFree"); free((void *)p); return 0; }
int cuMemcpyHtoDAsync_v2(uint64_t d, const void *s, size_t n, uintptr_t st) { FAIL("cuMemcpyHtoDAsync %zu on %lx", n, st); memcpy((void *)d, s, n); return 0; }
int cuMemcpyDtoHAsync_v2(void *d, uint64_t s, size_t n, uintptr_t st) { FAIL("cuMemcpyDtoHAsync %zu on %lx", n, st); memcpy(d, (void *)s, n); return 0; }
int cuMemcpyDtoDAsync_v2(uint64_t d, uint64_t s, size_t n, uintptr_t st) { FAIL("cuMemcpyDtoDAsync %zu on %lx", n, st); memcpy((void *)d, (void *)s, n); return 0; }
int cuModuleLoadDataEx(uintptr_t *m, const char *text, unsigned n, int *options, void **values) {
	int failed = note("cuModuleLoadDataEx %s", text);
	if (failed && n == 2 && options[0] == 5 && options[1] == 6) snprintf(values[0], (size_t)values[1], "ptxas: line 3 is wrong\n");
	*m = ++handles;
	return failed;
}
int cuModuleUnload(uintptr_t m) { FAIL("cuModuleUnload %lx", m); return 0; }
int cuModuleGetFunction(uintptr_t *f, uintptr_t m, const char *name) { FAIL("cuModuleGetFunction %lx %s", m, name); *f = ++handles; params[*f] = name[strlen(name) - 1] - '0'; return 0; }
int cuFuncSetAttribute(uintptr_t f, int a, int v) { FAIL("cuFuncSetAttribute %lx %d = %d", f, a, v); return 0; }
int cuLaunchKernel(uintptr_t f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
		unsigned shared, uintptr_t st, void **list, void **extra) {
	char args[256] = "";
	for (int i = 0; i < params[f]; i++) sprintf(args + strlen(args), " %lx", *(uint64_t *)list[i]);
	FAIL("cuLaunchKernel%s %lx grid %u %u %u block %u %u %u shared %u on %lx:%s", capturing ? " captured" : "", f, gx, gy, gz, bx, by, bz, shared, st, args);
	return extra ? 1 : 0;
}
int cuStreamCreate(uintptr_t *s, unsigned flags) { FAIL("cuStreamCreate %u", flags); *s = ++handles; return 0; }
int cuStreamDestroy_v2(uintptr_t s) { FAIL("cuStreamDestroy %lx", s); return 0; }
int cuStreamSynchronize(uintptr_t s) { FAIL("cuStreamSynchronize %lx", s); return capturing ? 900 : 0; }
int cuStreamBeginCapture_v2(uintptr_t s, int mode) { FAIL("cuStreamBeginCapture %lx %d", s, mode); capturing = 1; return 0; }
int cuStreamEndCapture(uintptr_t s, uintptr_t *g) { capturing = 0; *g = ++handles; FAIL("cuStreamEndCapture %lx", s); return 0; }
#ifndef OLD
int cuGraphInstantiateWithFlags(uintptr_t *e, uintptr_t g, unsigned long long flags) { FAIL("cuGraphInstantiateWithFlags %lx %llu", g, flags); *e = ++handles; return 0; }
#endif
int cuGraphDestroy(uintptr_t g) { FAIL("cuGraphDestroy %lx", g); return 0; }
int cuGraphExecDestroy(uintptr_t e) { FAIL("cuGraphExecDestroy %lx", e); return 0; }
int cuGraphLaunch(uintptr_t e, uintptr_t s) { FAIL("cuGraphLaunch %lx on %lx", e, s); return 0; }
