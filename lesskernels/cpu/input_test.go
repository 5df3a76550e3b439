package cpu

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
)

// Whoever rounds an input, and in however many parts, the words are the same, and what
// is computed late is computed once.
func TestInputParts(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, size := range [][2]int{{1, 128}, {3, 384}, {8, 640}, {13, 512}, {50, 256}} {
		n, cols := size[0], size[1]
		x := randomFloats(random, n*cols)
		for _, f := range []form{plain, codes, pairs, wide} {
			for _, isa := range isas() {
				var want, got Input
				want.Set(x, n, cols)
				one := NewPool(1)
				words := slices.Clone(want.form(one, f, isa).words)
				one.Close()
				late, counts := make([]float32, len(x)), make([]atomic.Int32, len(x))
				pool := NewPool(3)
				got.SetColumns(late, n, cols, func(row, from, to int) {
					for i := row*cols + from; i < row*cols+to; i++ {
						late[i] = x[i]
						counts[i].Add(1)
					}
				})
				if !slices.Equal(got.form(pool, f, isa).words, words) {
					t.Errorf("%v, form %d of [%d, %d]: three threads round it in another way", isa, f, n, cols)
				}
				got.form(pool, codes, isa) // another form of what is there
				pool.Close()
				for i := range counts {
					if c := counts[i].Load(); c != 1 {
						t.Fatalf("%v, form %d of [%d, %d]: value %d was computed %d times", isa, f, n, cols, i, c)
					}
				}
			}
		}
	}
}
