package extract

import (
	"context"
	"syscall"

	"github.com/tetratelabs/wazero/experimental"
)

// pdfMemory is the memory of one instance of PDFium: reserved whole, so that it grows without being copied, and given
// back to the system when its document has been read. On Go's heap, copies of a memory that grows to its limit stand
// beside it until they are collected.
type pdfMemory struct{ reserved []byte }

// Reallocate implements experimental.LinearMemory.
func (m *pdfMemory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.reserved)) {
		return nil
	}
	return m.reserved[:size:len(m.reserved)]
}

// Free implements experimental.LinearMemory. An instance that is killed is freed while its last call still runs, so
// the memory stays until release.
func (m *pdfMemory) Free() {}

// release gives the memory back. No call of the instance may be running.
func (m *pdfMemory) release() {
	if m != nil && m.reserved != nil {
		_ = syscall.Munmap(m.reserved) // of a mapping that was made, it does not fail
		m.reserved = nil
	}
}

// withMemory makes the instances of a sandbox that are made under the context take their memory from the system.
func (s *sandbox) withMemory(ctx context.Context) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(_, limit uint64) experimental.LinearMemory {
		s.memory = new(pdfMemory)
		reserved, err := syscall.Mmap(-1, 0, int(limit), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err == nil {
			s.memory.reserved = reserved
		}
		return s.memory
	}))
}
