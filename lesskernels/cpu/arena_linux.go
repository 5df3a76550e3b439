package cpu

import "golang.org/x/sys/unix"

// adviseHuge asks for huge pages; a system that refuses is only slower.
func adviseHuge(b []byte) {
	if len(b) > 0 {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	}
}
