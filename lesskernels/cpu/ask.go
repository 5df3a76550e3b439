package cpu

import "unsafe"

// Ask asks the memory for what will be read soon, and does not wait for it. A processor has
// room for some kilobytes that are under way.
func Ask[T any](x []T) {
	if n := uintptr(len(x)) * unsafe.Sizeof(*new(T)); n > 0 {
		prefetch((*byte)(unsafe.Pointer(&x[0])), (n+63)/64)
	}
}
