package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
)

var savedShape = Shape{Layers: 2, KVHeads: 2, HeadDim: 6, Context: 200, Interval: 3}

// saveOf is a sequence that was fed n tokens, and what it saves.
func saveOf(t *testing.T, spec Spec, n int) (*feeder, []byte) {
	t.Helper()
	f := newFeeder(t, spec, Budget{Tokens: 20}, savedShape)
	feedBy(f, n)
	var b bytes.Buffer
	if err := f.s.Save(&b, "model"); err != nil {
		t.Fatal(err)
	}
	return f, b.Bytes()
}

// A restored sequence holds what the saved one held, and goes on alike.
func TestSaveAndRestore(t *testing.T) {
	for _, spec := range []Spec{{Policy: Sinks}, {Policy: H2O}, {Policy: TOVA}, {Policy: Sinks, State: Moment},
		{Policy: BUZZ}, {Policy: CORM}, {Policy: Cascade, State: Moment}} {
		for _, n := range []int{0, 1, 20, 57} {
			f, data := saveOf(t, spec, n)
			g := newFeeder(t, spec, Budget{Tokens: 20}, savedShape)
			restored, err := Restore(bytes.NewReader(data), "model", func(string) Shape { return savedShape }, f.s.plan.Bytes, g.s.handlers, &Scratch{})
			if err != nil {
				t.Fatalf("%s, %d tokens: %v", spec, n, err)
			}
			if err := g.s.Free(); err != nil {
				t.Fatal(err)
			}
			g.s, g.absorbed = restored, cloneCounts(f.absorbed)
			g.verify()
			if restored.Position() != n || restored.Held() != f.s.Held() || restored.Plan().Bytes != f.s.Plan().Bytes {
				t.Errorf("%s: at %d holds %+v, saved at %d with %+v", spec, restored.Position(), restored.Held(), n, f.s.Held())
			}
			var again bytes.Buffer
			if err := restored.Save(&again, "model"); err != nil || !bytes.Equal(again.Bytes(), data) {
				t.Errorf("%s, %d tokens: saved again, %d bytes differ from %d, %v", spec, n, again.Len(), len(data), err)
			}
			feedBy(f, 40)
			feedBy(g, 40)
			for i := range f.s.heads {
				layer, head := i/savedShape.KVHeads, i%savedShape.KVHeads
				if got, want := g.s.Positions(layer, head), f.s.Positions(layer, head); !slices.Equal(got, want) {
					t.Errorf("%s: holds %v, want %v", spec, got, want)
				}
			}
		}
	}
}

func cloneCounts(counts []map[int32]int) []map[int32]int {
	clone := make([]map[int32]int, len(counts))
	for i, m := range counts {
		clone[i] = map[int32]int{}
		for position, times := range m {
			clone[i][position] = times
		}
	}
	return clone
}

// edited is a saved sequence with another header, and the sum that belongs to it.
func edited(data []byte, old, new string) []byte {
	n := int(binary.LittleEndian.Uint32(data[8:]))
	header := strings.Replace(string(data[12:12+n]), old, new, 1)
	out := binary.LittleEndian.AppendUint32([]byte(savedMagic), uint32(len(header)))
	out = append(append(out, header...), data[12+n:len(data)-4]...)
	return binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(out))
}

func TestRestoreRefuses(t *testing.T) {
	_, data := saveOf(t, Spec{Policy: Sinks}, 57)
	restore := func(data []byte, model string, shape Shape, most int64) error {
		s, err := Restore(bytes.NewReader(data), model, func(string) Shape { return shape }, most, Handlers{}, &Scratch{})
		if s != nil {
			s.Free()
		}
		return err
	}
	if err := restore(edited(data, "", ""), "model", savedShape, 1<<30); err != nil {
		t.Fatalf("the file as it is: %v", err)
	}
	other := savedShape
	other.Layers = 3
	damaged := slices.Clone(data)
	damaged[len(damaged)-9] ^= 1
	for name, err := range map[string]error{
		"another model's":         restore(data, "other", savedShape, 1<<30),
		"another shape's":         restore(data, "model", other, 1<<30),
		"more than there is":      restore(data, "model", savedShape, 100),
		"nothing":                 restore(nil, "model", savedShape, 1<<30),
		"no saved sequence":       restore([]byte("GGUF and something else"), "model", savedShape, 1<<30),
		"cut off":                 restore(data[:len(data)-5], "model", savedShape, 1<<30),
		"cut off in the header":   restore(data[:40], "model", savedShape, 1<<30),
		"a flipped bit":           restore(damaged, "model", savedShape, 1<<30),
		"more held than slots":    restore(edited(data, `"Held":[2`, `"Held":[99`), "model", savedShape, 1<<30),
		"a negative count":        restore(edited(data, `"Absorbed":[0`, `"Absorbed":[-1`), "model", savedShape, 1<<30),
		"beyond the context":      restore(edited(data, `"Position":57`, `"Position":5700`), "model", savedShape, 1<<30),
		"before what it holds":    restore(edited(data, `"Position":57`, `"Position":30`), "model", savedShape, 1<<30),
		"a huge budget":           restore(edited(data, `"Keeps":[20`, `"Keeps":[9223372036854775807`), "model", savedShape, 1<<30),
		"fewer KV heads":          restore(edited(data, `"Keeps":[20,`, `"Keeps":[`), "model", savedShape, 1<<30),
		"an unknown cache":        restore(edited(data, `"Spec":"sinks"`, `"Spec":"sieve"`), "model", savedShape, 1<<30),
		"a field of another time": restore(edited(data, `"Position":57`, `"Position":57,"Colour":1`), "model", savedShape, 1<<30),
	} {
		if !errors.Is(err, ErrSaved) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRestore(f *testing.F) {
	p, err := NewPlan(Spec{Policy: H2O}, Budget{Tokens: 5}, savedShape)
	if err != nil {
		f.Fatal(err)
	}
	s, err := NewSequence(p, Handlers{}, &Scratch{})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Free()
	var b bytes.Buffer
	if err := s.Save(&b, "model"); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(edited(b.Bytes(), `"Keeps":[5`, `"Keeps":[-5`))
	f.Add(edited(b.Bytes(), `"Shape":{`, `"Shape":{"Ranks":[1],`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Restore(bytes.NewReader(data), "model", func(string) Shape { return savedShape }, 1<<20, Handlers{}, &Scratch{})
		if err == nil {
			var again bytes.Buffer
			if err := s.Save(&again, "model"); err != nil {
				t.Error(err)
			}
			if err := s.Free(); err != nil {
				t.Error(err)
			}
		}
	})
}
