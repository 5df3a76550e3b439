package cpu

import (
	"math"
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

// TestQuantize checks that every instruction set writes the same words as the
// portable form, for all places in a tile, and how it treats what is no number.
func TestQuantize(t *testing.T) {
	for _, isa := range isas() {
		for _, f := range []form{codes, pairs} {
			for tokens := 1; tokens <= 13; tokens++ {
				testQuantize(t, isa, f, tokens)
			}
		}
	}
}

func testQuantize(t *testing.T, isa ISA, f form, tokens int) {
	const cols = 9 * blockLen
	rng := rand.New(rand.NewPCG(7, uint64(tokens)))
	rows := tokens * f.rows()
	oracle, kernel := quantize, rowsFor(isa).quantize
	if f == pairs {
		oracle, kernel = quantizePair, rowsFor(isa).quantizePair
	}
	got, want := make([]uint32, rows*cols/blockLen*intWords), make([]uint32, rows*cols/blockLen*intWords)
	for i := range tokens {
		x := spread(rng, cols)
		clear(x[:blockLen])
		x[blockLen+3] = float32(math.Inf(1))
		x[2*blockLen+i*7%blockLen] = nan
		for j := range blockLen {
			x[3*blockLen+j] *= 1e-35
			x[4*blockLen+j] *= 1e-28
			x[5*blockLen+j] *= 1e37
		}
		oracle(want[i*f.rows():], x, rows)
		kernel(got[i*f.rows():], x, rows)
	}
	for i, w := range want {
		if got[i] != w {
			t.Fatalf("%v: form %d, %d rows: word %d (row %d, token %d) = %#x, want %#x", isa, f, rows, i, i/rows%intWords, i%rows, got[i], w)
		}
	}
	for block, holds := range map[int]string{1: "an infinity", 2: "a NaN"} {
		if scale := math.Float32frombits(want[8*rows+block*intWords*rows]); !math.IsNaN(float64(scale)) {
			t.Fatalf("%d tokens: a block with %s has scale %v, want NaN", tokens, holds, scale)
		}
	}
}

// TestPairsHoldSixteenBits checks that two rows of codes leave over at most half a
// code of the second.
func TestPairsHoldSixteenBits(t *testing.T) {
	x := spread(rand.New(rand.NewPCG(3, 4)), 40*blockLen)
	for b := 0; b < len(x); b += blockLen {
		peak := 0.0
		for _, v := range x[b:][:blockLen] {
			peak = max(peak, math.Abs(float64(v)))
		}
		for i, y := range quantized(x[b:][:blockLen], pairs) {
			if diff := math.Abs(y - float64(x[b+i])); !(diff <= peak/127/127/4*1.001) {
				t.Fatalf("%v of a block up to %v became %v", x[b+i], peak, y)
			}
		}
	}
}
