//go:build linux && (amd64 || arm64) && !nocuda

package device

import (
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
)

// call is a function of the driver's API.
type call int

const (
	cuInit call = iota
	cuDriverGetVersion
	cuGetErrorName
	cuDeviceGetCount
	cuDeviceGet
	cuDeviceGetName
	cuDeviceGetAttribute
	cuDevicePrimaryCtxRetain
	cuDevicePrimaryCtxRelease
	cuDevicePrimaryCtxReset
	cuCtxSetCurrent
	cuMemGetInfo
	cuMemAlloc
	cuMemFree
	cuMemcpyHtoDAsync
	cuMemcpyDtoHAsync
	cuMemcpyDtoDAsync
	cuModuleLoadDataEx
	cuModuleUnload
	cuModuleGetFunction
	cuFuncSetAttribute
	cuLaunchKernel
	cuStreamCreate
	cuStreamDestroy
	cuStreamSynchronize
	cuStreamBeginCapture
	cuStreamEndCapture
	cuGraphInstantiateWithFlags
	cuGraphDestroy
	cuGraphExecDestroy
	cuGraphLaunch
	calls
)

// symbols are the calls' names in the library, with the version of their arguments.
var symbols = [calls]string{"cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuDeviceGetCount", "cuDeviceGet",
	"cuDeviceGetName", "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2", "cuDevicePrimaryCtxReset_v2", "cuCtxSetCurrent",
	"cuMemGetInfo_v2", "cuMemAlloc_v2", "cuMemFree_v2", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemcpyDtoDAsync_v2",
	"cuModuleLoadDataEx", "cuModuleUnload", "cuModuleGetFunction", "cuFuncSetAttribute", "cuLaunchKernel",
	"cuStreamCreate", "cuStreamDestroy_v2", "cuStreamSynchronize", "cuStreamBeginCapture_v2", "cuStreamEndCapture",
	"cuGraphInstantiateWithFlags", "cuGraphDestroy", "cuGraphExecDestroy", "cuGraphLaunch"}

// leastDriver is the first driver with all of symbols, 11.4. It compiles PTX 7.0 too.
const leastDriver = 11040

// library is the driver's functions.
type library [calls]uintptr

// load finds the driver's library.
func load(path string) (*library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("%w: there is no NVIDIA driver: %w", ErrUnavailable, err)
	}
	l := &library{}
	for i, name := range symbols {
		if l[i], err = purego.Dlsym(handle, name); err != nil {
			return nil, fmt.Errorf("%w: the NVIDIA driver is too old, CUDA %s or later is needed: %w", ErrUnavailable, version(leastDriver), err)
		}
	}
	return l, nil
}

// do calls the driver. An address of Go memory among args is written as
// uintptr(unsafe.Pointer(&x)) in the call itself: only so does the compiler keep x
// alive and where it is.
//
//go:uintptrescapes
func (l *library) do(c call, args ...uintptr) error {
	r, _, _ := purego.SyscallN(l[c], args...)
	if code := int(int32(r)); code != 0 {
		return &Error{Call: symbols[c], Code: code, Name: l.errorName(code)}
	}
	return nil
}

func (l *library) errorName(code int) string {
	var name *byte
	if r, _, _ := purego.SyscallN(l[cuGetErrorName], uintptr(code), uintptr(unsafe.Pointer(&name))); int32(r) != 0 || name == nil {
		return "unknown"
	}
	return text(name)
}

// text is a C string.
func text(s *byte) string {
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(s), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(s, n))
}
