package passages

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// ErrDamaged is wrapped where a file is not what was written.
var ErrDamaged = errors.New("damaged passage")

// A file holds one passage; its numbers are little-endian:
//
//	magic [8]byte, header length uint32, header as JSON
//	for every head: K, V uint16; Positions int32; State float32
//	CRC-32 (Castagnoli) of all of the above, uint32
const magic = "LESSPSG1"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header tells what the numbers of a file are.
type header struct {
	Name   string // of the Key
	Tokens int
	First  int
	Heads  []counts
}

type counts struct {
	K, V, Positions, State, Absorbed, Clock int
}

// encode writes a passage.
func encode(name string, p *Passage) ([]byte, error) {
	h := header{Name: name, Tokens: p.Tokens, First: p.First}
	for i := range p.Heads {
		d := &p.Heads[i]
		h.Heads = append(h.Heads, counts{len(d.K), len(d.V), len(d.Positions), len(d.State), d.Absorbed, d.Clock})
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	out := slices.Grow([]byte(magic), int(p.Bytes())+len(text)+16)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(text)))
	out = append(out, text...)
	for i := range p.Heads {
		d := &p.Heads[i]
		for _, part := range []any{d.K, d.V, d.Positions, d.State} {
			if out, err = binary.Append(out, binary.LittleEndian, part); err != nil {
				return nil, err
			}
		}
	}
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli)), nil
}

// decode reads what encode wrote under the same name. The error wraps ErrDamaged.
func decode(name string, content []byte) (*Passage, error) {
	fail := func(why string) (*Passage, error) { return nil, fmt.Errorf("%w: %s", ErrDamaged, why) }
	if len(content) < len(magic)+8 || string(content[:len(magic)]) != magic {
		return fail("this is not one, or of another version")
	}
	body, sum := content[:len(content)-4], binary.LittleEndian.Uint32(content[len(content)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return fail("its sum is wrong")
	}
	rest := body[len(magic)+4:]
	size := binary.LittleEndian.Uint32(body[len(magic):])
	if uint64(size) > uint64(len(rest)) {
		return fail("its header is cut off")
	}
	var h header
	if err := json.Unmarshal(rest[:size], &h); err != nil {
		return fail("its header is no JSON")
	}
	if h.Name != name {
		return fail("it is another passage")
	}
	numbers := bytes.NewReader(rest[size:])
	p := &Passage{Tokens: h.Tokens, First: h.First, Heads: make([]Head, len(h.Heads))}
	for i, c := range h.Heads {
		if min(c.K, c.V, c.Positions, c.State) < 0 || 2*(c.K+c.V)+4*(c.Positions+c.State) > numbers.Len() {
			return fail("its counts do not fit")
		}
		d := &p.Heads[i]
		*d = Head{K: make([]uint16, c.K), V: make([]uint16, c.V), Absorbed: c.Absorbed, Clock: c.Clock}
		parts := []any{d.K, d.V}
		if c.Positions > 0 {
			d.Positions = make([]int32, c.Positions)
			parts = append(parts, d.Positions)
		}
		if c.State > 0 {
			d.State = make([]float32, c.State)
			parts = append(parts, d.State)
		}
		for _, part := range parts {
			if err := binary.Read(numbers, binary.LittleEndian, part); err != nil && binary.Size(part) > 0 {
				return fail(err.Error())
			}
		}
	}
	if numbers.Len() > 0 {
		return fail("something follows it")
	}
	return p, nil
}
