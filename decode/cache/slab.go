package cache

import "unsafe"

// slab is one sequence's memory, taken from the system in one piece and given
// back in one, so that bytes are exact and are free the moment a sequence ends.
type slab struct {
	bytes []byte
	used  int
}

// bf16 takes the next n values; those of 2 bytes come before those of 4, so that
// every one is aligned.
func (s *slab) bf16(n int) []uint16 {
	return take[uint16](s, n)
}

func (s *slab) int32s(n int) []int32 {
	return take[int32](s, n)
}

func (s *slab) float32s(n int) []float32 {
	return take[float32](s, n)
}

func take[T uint16 | int32 | float32](s *slab, n int) []T {
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	part := s.bytes[s.used : s.used+size] // panics where a Plan and its Sequence disagree
	s.used += size
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(part))), n)[:n:n]
}
