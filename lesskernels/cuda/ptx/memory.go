package ptx

import (
	"encoding/binary"
	"slices"
	"sort"

	"lessrag/lesskernels/cuda/device"
)

// memory is a device's: allocations with gaps between them, so that what is beyond the
// end of one is nowhere.
type memory struct {
	list []*allocation // by address
	next uint64
}

type allocation struct {
	base  uint64
	bytes []byte
}

const (
	firstAddress = 0x7f00_0000_0000
	gap          = 1 << 20
	grain        = 256 // addresses are multiples of it
	poisonByte   = 0xff
)

// take allocates memory that holds no numbers.
func (m *memory) take(bytes int64) device.Pointer {
	m.next = max(m.next, firstAddress)
	a := &allocation{m.next, slices.Repeat([]byte{poisonByte}, int(bytes))}
	m.list = append(m.list, a)
	m.next += (uint64(bytes)+grain-1)&^(grain-1) + gap
	return device.Pointer(a.base)
}

// give takes memory back; it tells whether it was allocated.
func (m *memory) give(p device.Pointer) bool {
	before := len(m.list)
	m.list = slices.DeleteFunc(m.list, func(a *allocation) bool { return a.base == uint64(p) })
	return len(m.list) < before
}

// find is the allocation with an address, nil if there is none.
func (m *memory) find(address uint64) *allocation {
	i := sort.Search(len(m.list), func(i int) bool { return m.list[i].base > address })
	if i == 0 {
		return nil
	}
	return m.list[i-1]
}

// span is n bytes at an address, nil if they are not all of one allocation.
func (m *memory) span(address uint64, n int) []byte {
	a := m.find(address)
	if a == nil || !a.has(address, n) {
		return nil
	}
	return a.bytes[address-a.base:][:n]
}

func (a *allocation) has(address uint64, n int) bool {
	return address >= a.base && address-a.base+uint64(n) <= uint64(len(a.bytes))
}

// global is n bytes that a thread reads or writes.
func (w *warp) global(address uint64, n int) []byte {
	if address%uint64(n) != 0 {
		fail("%d bytes at %#x, which is no multiple of that", n, address)
	}
	if w.hit == nil || !w.hit.has(address, n) {
		a := w.memory.find(address)
		if a == nil || !a.has(address, n) {
			fail("%d bytes at %#x, outside of what is allocated", n, address)
		}
		w.hit = a
	}
	return w.hit.bytes[address-w.hit.base:][:n]
}

// load reads a little-endian value of 1, 2, 4 or 8 bytes.
func load(b []byte, size int) uint64 {
	switch size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

func store(b []byte, size int, v uint64) {
	switch size {
	case 1:
		b[0] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(b, uint16(v))
	case 4:
		binary.LittleEndian.PutUint32(b, uint32(v))
	default:
		binary.LittleEndian.PutUint64(b, v)
	}
}
