package ptx

// shared is the memory of a block, with a note of who touched what since the last
// barrier. Two warps that touch the same bytes between two barriers, one of them
// writing, race: on a card the outcome depends on chance, here it is a fault.
type shared struct {
	bytes []byte
	cells []cell // one for every 2 bytes
	epoch uint32 // barriers passed
}

type cell struct {
	wrote, read uint32 // epochs in which it was last written and read, +1
	readers     uint32 // warps that read it in that epoch
	writer      uint8  // warp
	copies      uint8  // asynchronous copies to it that are under way
}

func newShared(bytes int) shared {
	s := shared{bytes: make([]byte, bytes), cells: make([]cell, (bytes+1)/2)}
	s.reset()
	return s
}

// reset leaves what a new block finds: nothing that makes sense.
func (s *shared) reset() {
	for i := range s.bytes {
		s.bytes[i] = poisonByte
	}
	clear(s.cells)
	s.epoch = 0
}

// span is n bytes that a thread reads or writes.
func (s *shared) span(address uint64, n int) ([]byte, []cell) {
	address &= 1<<32 - 1
	switch {
	case address+uint64(n) > uint64(len(s.bytes)):
		fail("%d bytes at %d of %d bytes of shared memory", n, address, len(s.bytes))
	case address%uint64(n) != 0:
		fail("%d bytes at %d of shared memory, which is no multiple of that", n, address)
	}
	return s.bytes[address:][:n], s.cells[address/2:][:(n+1)/2]
}

func (s *shared) read(w int, address uint64, n int) []byte {
	bytes, cells := s.span(address, n)
	for i := range cells {
		c := &cells[i]
		if c.copies > 0 {
			fail("shared memory at %d is read while a copy to it is under way", address)
		}
		if c.wrote == s.epoch+1 && int(c.writer) != w {
			fail("a race: warp %d reads shared memory at %d that warp %d writes", w, address, c.writer)
		}
		if c.read != s.epoch+1 {
			c.read, c.readers = s.epoch+1, 0
		}
		c.readers |= 1 << w
	}
	return bytes
}

// write stores what a thread writes.
func (s *shared) write(w int, address uint64, data []byte) {
	bytes, cells := s.span(address, len(data))
	s.claim(w, address, cells, string(bytes) == string(data))
	copy(bytes, data)
}

// claim notes a write. Warps that hold the same numbers may write the same to one place.
func (s *shared) claim(w int, address uint64, cells []cell, same bool) {
	for i := range cells {
		c := &cells[i]
		if c.copies > 0 {
			fail("shared memory at %d is written while a copy to it is under way", address)
		}
		if c.wrote == s.epoch+1 && int(c.writer) != w && !same {
			fail("a race: warp %d writes shared memory at %d that warp %d writes", w, address, c.writer)
		}
		if c.read == s.epoch+1 && c.readers&^(1<<w) != 0 {
			fail("a race: warp %d writes shared memory at %d that another warp reads", w, address)
		}
		c.wrote, c.writer = s.epoch+1, uint8(w)
	}
}
