package cpu

import (
	"math/rand/v2"
	"testing"

	"lessrag/lesskernels"
)

// TestAnnounce looks whether every thread is told of the panel that its share begins
// with, and for one product only.
func TestAnnounce(t *testing.T) {
	const cols, n = 64, 2
	rng := rand.New(rand.NewPCG(3, 1))
	pack := func(rows int) *Matrix {
		m, err := Pack(lesskernels.Q4_1, randomWeights(rng, lesskernels.Q4_1, rows*cols), rows, cols, Best())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	a, b, wide := pack(160), pack(70), pack(320)
	for _, threads := range []int{1, 2, 5} {
		p := NewPool(threads)
		defer p.Close()
		products := []Product{{Matrix: a, Together: 32}, {Matrix: b, Pairs: true}}
		units := products[0].units(n) + products[1].units(n)
		p.Announce(n, products...)
		for i, part := range p.announced {
			from := i * units / threads
			for panel := range a.panels() + b.panels() { // the first that unitsOf computes from there on
				m, at, begin := a, panel, panel*products[0].unitsOfPanel(n)
				if panel >= a.panels() {
					m, at = b, panel-a.panels()
					begin = products[0].units(n) + at*products[1].unitsOfPanel(n)
				}
				if begin < from || m == a && panel%2 != 0 {
					continue
				}
				if &part[0] != &m.at(at)[0] {
					t.Errorf("thread %d of %d is not told of panel %d", i, threads, panel)
				}
				break
			}
		}
		p.AnnounceChain(fewChained, Product{Matrix: wide}, Product{Matrix: wide})
		for i, part := range p.announced {
			if block := i * 10 / threads; &part[0] != &wide.at(2 * block)[0] {
				t.Errorf("thread %d of %d is not told of block %d of a chain", i, threads, block)
			}
		}
		var in Input
		in.Set(randomFloats(rng, n*cols), n, cols)
		told := p.announced
		for _, want := range []bool{true, false} {
			a.Mul(p, make([]float32, n*a.rows), &in)
			if got := len(p.ahead) > 0 && &p.ahead[0] == &told[0]; got != want || p.announced != nil {
				t.Errorf("threads %d: what was announced is read: %v, want %v", threads, got, want)
			}
		}
	}
}

// TestReader looks whether a part is read once, to its end.
func TestReader(t *testing.T) {
	ahead := [][]byte{make([]byte, 64*(2*linesALook+3)), nil, make([]byte, 64)}
	var r reader
	for range 2 { // the same part again
		r.next(ahead, 0)
		for i, want := range []bool{true, true, true, false} {
			if r.of == &ahead[0][0] && len(r.rest) == 0 {
				want = false
			}
			if got := r.read(linesALook); got != want {
				t.Errorf("look %d reads: %v, want %v", i, got, want)
			}
		}
	}
	for thread, want := range map[int]bool{1: false, 2: true, 7: false} {
		if r.next(ahead, thread); r.read(linesALook) != want {
			t.Errorf("thread %d: reads: %v, want %v", thread, !want, want)
		}
	}
	Prefetch([]float32(nil))
	Prefetch(make([]uint16, 3))
}
