//go:build !unix

package cache

func newSlab(bytes int64) (*slab, error) {
	return &slab{bytes: make([]byte, bytes)}, nil
}

func (s *slab) free() error {
	s.bytes = nil
	return nil
}
