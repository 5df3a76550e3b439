package cpu

import (
	"sync"
	"unsafe"
)

const (
	hugePage  = 2 << 20
	arenaSize = 32 << 20
)

// arena hands out the memory of packed matrices from large pieces that ask
// for huge pages: a product with one token reads all weights once, and page
// walks would cost as much as the reading. A piece is freed with its last
// matrix.
var arena struct {
	sync.Mutex
	rest []byte
}

// aligned returns n zero bytes at a multiple of 64.
func aligned(n int) []byte {
	n = (n + 63) &^ 63
	arena.Lock()
	defer arena.Unlock()
	if n > len(arena.rest) {
		if n >= arenaSize/2 {
			return piece(n)[:n:n]
		}
		arena.rest = piece(arenaSize)
	}
	b := arena.rest[:n:n]
	arena.rest = arena.rest[n:]
	return b
}

// piece allocates at least n bytes at a multiple of the huge page.
func piece(n int) []byte {
	b := make([]byte, n+hugePage)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (hugePage - 1)
	b = b[skip:]
	adviseHuge(b[:len(b)&^(hugePage-1)])
	return b
}
