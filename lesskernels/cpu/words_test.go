package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"lessrag/lesskernels"
)

// floatBytes is x as a tensor of F32 stores it.
func floatBytes(x []float32) []byte {
	data := make([]byte, 0, 4*len(x))
	for _, v := range x {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return data
}

// wordsOf is x as blocks of 13-bit codes hold it.
func wordsOf(x []float32) []float64 {
	out := make([]float64, len(x))
	for b := 0; b < len(x); b += wordBlock {
		scale, inverse := wordScale(x[b : b+wordBlock])
		for i, v := range x[b : b+wordBlock] {
			out[b+i] = float64(scale) * float64(word(v, inverse))
		}
	}
	return out
}

// TestMulWords compares products with those of the rounded numbers in float64, and
// a token's with its own alone.
func TestMulWords(t *testing.T) {
	pool := NewPool(2)
	defer pool.Close()
	for _, isa := range isas() {
		for _, size := range [][3]int{{1, 1, 128}, {2, 16, 128}, {5, 35, 384}, {13, 48, 256}, {29, 50, 1536}} {
			n, rows, cols := size[0], size[1], size[2]
			t.Run(fmt.Sprintf("%v/%d tokens/%d×%d", isa, n, rows, cols), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(8, uint64(n)))
				weights, x := randomFloats(rng, rows*cols), randomFloats(rng, n*cols)
				for i := range x {
					x[i] *= float32(1 + i%5*i%7) // some stand out
				}
				m, err := PackWords(lesskernels.F32, floatBytes(weights), rows, cols, isa)
				if err != nil {
					t.Fatal(err)
				}
				var in Input
				in.Set(x, n, cols)
				got, alone := make([]float32, n*rows), make([]float32, rows)
				m.Mul(pool, got, &in)
				for i := range n {
					seen := wordsOf(x[i*cols : (i+1)*cols])
					in.Set(x[i*cols:], 1, cols)
					m.Mul(pool, alone, &in)
					for r := range rows {
						want, size := 0.0, 0.0
						for c, w := range wordsOf(weights[r*cols : (r+1)*cols]) {
							want, size = want+w*seen[c], size+math.Abs(w*seen[c])
						}
						if y := got[i*rows+r]; !(math.Abs(float64(y)-want) <= 1e-6*size) || y != alone[r] {
							t.Fatalf("(%d, %d) = %v, alone %v, want %v", i, r, y, alone[r], want)
						}
					}
				}
			})
		}
	}
}

// TestWordsKeepFourDigits checks that a stored row is the given one but for half a code.
func TestWordsKeepFourDigits(t *testing.T) {
	const rows, cols = 19, 384
	x := randomFloats(rand.New(rand.NewPCG(2, 9)), rows*cols)
	clear(x[:wordBlock])
	m, err := PackWords(lesskernels.F32, floatBytes(x), rows, cols, Portable)
	if err != nil {
		t.Fatal(err)
	}
	row := make([]float32, cols)
	for r := range rows {
		m.Row(row, r)
		for c, got := range row {
			scale, _ := wordScale(x[r*cols+c/wordBlock*wordBlock:][:wordBlock])
			if want := x[r*cols+c]; !(math.Abs(float64(got-want)) <= 0.5001*float64(scale)) {
				t.Fatalf("(%d, %d) is %v, want %v of a block in steps of %v", r, c, got, want, scale)
			}
		}
	}
}

// The largest sum of products that a block can have does not overflow.
func TestWordsDoNotOverflow(t *testing.T) {
	pool := NewPool(1)
	defer pool.Close()
	x := make([]float32, wordBlock)
	for i := range x {
		x[i] = -3
	}
	for _, isa := range isas() {
		m, err := PackWords(lesskernels.F32, floatBytes(x), 1, wordBlock, isa)
		if err != nil {
			t.Fatal(err)
		}
		var in Input
		in.Set(x, 1, wordBlock)
		var got [1]float32
		if m.Mul(pool, got[:], &in); !(math.Abs(float64(got[0])-9*wordBlock) <= 1e-3) {
			t.Errorf("%v: %v, want %v", isa, got[0], 9*wordBlock)
		}
	}
}

// TestQuantizeWide compares words, bit by bit, at every number of rows.
func TestQuantizeWide(t *testing.T) {
	for _, isa := range isas() {
		for rows := 1; rows <= 12; rows++ {
			rng := rand.New(rand.NewPCG(6, uint64(rows)))
			const cols = 6 * wordBlock
			got, want := make([]uint32, rows*cols/wordBlock*wideWords), make([]uint32, rows*cols/wordBlock*wideWords)
			for i := range rows {
				x := spread(rng, cols)
				clear(x[:wordBlock])
				x[wordBlock+3] = float32(math.Inf(-1))
				x[2*wordBlock+i*7] = float32(math.NaN())
				for j := range wordBlock {
					x[3*wordBlock+j] *= 1e-36
				}
				quantizeWide(want[i*wideWords:], x, rows)
				rowsFor(isa).quantizeWide(got[i*wideWords:], x, rows)
			}
			for i, w := range want {
				if got[i] != w {
					t.Fatalf("%v, %d rows: word %d is %#x, want %#x", isa, rows, i, got[i], w)
				}
			}
			for _, block := range []int{1, 2} {
				if scale := math.Float32frombits(want[block*rows*wideWords+wordBlock/2]); scale == scale {
					t.Fatalf("block %d, which is not finite, has the scale %v", block, scale)
				}
			}
		}
	}
}

func TestPackWordsRefuses(t *testing.T) {
	for name, shape := range map[string][3]int{"no whole block": {1, 192, 768}, "too few bytes": {2, 128, 512}, "no rows": {0, 128, 0}} {
		if _, err := PackWords(lesskernels.F32, make([]byte, shape[2]), shape[0], shape[1], Portable); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
