//go:build unix

package cache

import "golang.org/x/sys/unix"

func newSlab(bytes int64) (*slab, error) {
	memory, err := unix.Mmap(-1, 0, int(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	return &slab{bytes: memory}, nil
}

func (s *slab) free() error {
	if s.bytes == nil {
		return nil
	}
	memory := s.bytes
	s.bytes = nil
	return unix.Munmap(memory)
}
