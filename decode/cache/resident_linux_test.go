package cache

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
)

// A process grows by what the Plans of its sequences say, whatever is composed, and by
// no more while they evict.
func TestResidentIsPlanned(t *testing.T) {
	const sequences, fed, tries, slack = 12, 2, 3, 1 << 20 // slack: of the program itself
	shape := Shape{Layers: 4, KVHeads: 3, HeadDim: 64, Context: 4000, Interval: 16, Group: 3, Ranks: repeat(8, 12)}
	vectors := make([]float32, 2*64)
	for i := range vectors {
		vectors[i] = float32(i%7) - 3
	}
	vector := func(_, _ int, position int32, _ uint64) []float32 { return vectors[position%64:][:64] }
	handlers := Handlers{
		Turn:     func(dst, k []uint16, _ int) { copy(dst, k) },
		Features: func(_, _ int, _ []float32, _ []int32, psi []float32) { clear(psi) },
		Absorb:   func(*State, int, int, []uint16, []uint16, []uint16, []int32) {},
	}
	specs, _ := combinations()
	measure := func(spec Spec) (wrong error) {
		p, err := NewPlan(spec, Budget{Tokens: 800}, shape)
		if err != nil {
			t.Fatal(err)
		}
		before := residentBytes(t)
		var running []*Sequence
		for i := range sequences {
			s, err := NewSequence(p, handlers, &Scratch{})
			if err != nil {
				t.Fatal(err)
			}
			for i < fed && (s.Position() < 750 || spec.Bounded() && s.Position() < 1000) {
				feedVectors(t, s, 50, vector)
			}
			running = append(running, s)
		}
		if grown := residentBytes(t) - before; grown > fed*p.Bytes+slack {
			wrong = fmt.Errorf("%s: %d sequences that evict take %d bytes, planned %d", spec, fed, grown, fed*p.Bytes)
		}
		planned := sequences * p.Bytes
		for _, s := range running {
			for i := 0; i < len(s.memory.bytes); i += os.Getpagesize() {
				s.memory.bytes[i]++ // what is set aside, and was not needed yet
			}
		}
		if grown := residentBytes(t) - before; !(grown >= planned-slack && grown <= planned+slack) {
			wrong = fmt.Errorf("%s: %d full sequences take %d bytes, planned %d", spec, sequences, grown, planned)
		}
		for _, s := range running {
			if err := s.Free(); err != nil {
				t.Error(err)
			}
		}
		return wrong
	}
	for _, spec := range specs {
		// The program's own pages come in once, at any time; what a sequence takes, it takes every time.
		err := measure(spec)
		for try := 1; err != nil && try < tries; try++ {
			err = measure(spec)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// residentBytes is the memory of this process that is in use, but for the garbage
// collector's: what a test has allocated comes and goes.
func residentBytes(t *testing.T) int64 {
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	var size, resident int64
	if err == nil {
		_, err = fmt.Sscan(string(text), &size, &resident)
	}
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return resident*int64(os.Getpagesize()) - int64(m.HeapSys-m.HeapReleased)
}
