package cpu

import "golang.org/x/sys/unix"

// allowTiles asks the system to keep the registers of AMX for this process's threads, and
// tells whether it will: https://docs.kernel.org/arch/x86/xstate.html.
func allowTiles() bool {
	const requestPermission, tileData = 0x1023, 18
	_, _, failed := unix.RawSyscall(unix.SYS_ARCH_PRCTL, requestPermission, tileData, 0)
	return failed == 0
}
