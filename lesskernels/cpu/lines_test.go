package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"lessrag/lesskernels"
)

// needAMX skips a test where kernels of AMX cannot run.
func needAMX(t *testing.T) {
	t.Helper()
	if Best() < AMX {
		t.Skipf("the machine, its system or LESSRAG_ISA has no AMX: %v", Best())
	}
}

// TestMulLines compares products of tiles of lines with those of AVX-512 bit by bit: odd
// and even numbers of blocks, tiles that are full or not, panels with rows to spare, and
// numbers that are not finite. A collector and other goroutines run meanwhile, so that
// threads are interrupted and exchanged in the midst of it.
func TestMulLines(t *testing.T) {
	needAMX(t)
	stop := make(chan bool)
	var collector sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	defer collector.Wait()
	defer close(stop)
	t.Run("types", func(t *testing.T) {
		for _, dtype := range []lesskernels.DType{
			lesskernels.Q4_0, lesskernels.Q4_1, lesskernels.Q5_0, lesskernels.Q5_1, lesskernels.Q8_0,
			lesskernels.Q4_K, lesskernels.Q5_K, lesskernels.Q6_K,
		} {
			t.Run(dtype.String(), func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(17, uint64(dtype)))
				pool := NewPool(2)
				defer pool.Close()
				unit, _, _ := dtype.BlockSize()
				for _, units := range []int{1, 2, 3, 18} {
					testMulLines(t, rng, pool, dtype, 37, units*int(unit))
				}
			})
		}
	})
}

func testMulLines(t *testing.T, rng *rand.Rand, pool *Pool, dtype lesskernels.DType, rows, cols int) {
	t.Helper()
	data := randomWeights(rng, dtype, rows*cols)
	var ms [2]*Matrix
	for i, isa := range []ISA{AVX512, AMX} {
		m, err := Pack(dtype, data, rows, cols, isa)
		if err != nil {
			t.Fatal(err)
		}
		ms[i] = m
	}
	for _, n := range []int{fewLines - 1, fewLines, 33, 40, 47, 61, 128} {
		x := randomFloats(rng, n*cols)
		x[(n-1)*cols] = float32(math.Inf(1))
		clear(x[:blockLen])
		old := randomFloats(rng, n*rows)
		var results [2][]Product
		for i, m := range ms {
			var in Input
			in.Set(x, n, cols)
			for variant := range 4 {
				results[i] = append(results[i], Product{Matrix: m, Dst: slices.Clone(old), Pairs: variant&1 > 0, Add: variant&2 > 0})
			}
			MulAll(pool, &in, results[i]...)
			if lined := in.forms[codes].lined; lined != (i == 1 && n >= fewLines) {
				t.Fatalf("%d tokens for %v: in lines: %v", n, m.isa, lined)
			}
		}
		for p, product := range results[1] {
			for i, y := range product.Dst {
				if want := results[0][p].Dst[i]; math.Float32bits(y) != math.Float32bits(want) && (y == y || want == want) {
					t.Fatalf("%d tokens, %d columns, pairs %v, added %v: (%d, %d) = %v, want %v", n, cols, product.Pairs, product.Add, i/rows, i%rows, y, want)
				}
			}
			if last := product.Dst[n*rows-1]; last == last {
				t.Fatalf("%d tokens, %d columns: an infinity became %v", n, cols, last)
			}
		}
	}
}

// TestQuantizeLines compares lines with the words of a tile of one token, and the rows
// behind the last token with zeros.
func TestQuantizeLines(t *testing.T) {
	if Best() < AVX512 {
		t.Skipf("lines are written by AVX-512: %v", Best())
	}
	const cols, tokens = 7 * blockLen, 3
	for _, f := range []form{codes, pairs} {
		t.Run(fmt.Sprint(f), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, uint64(f)))
			x := spread(rng, tokens*cols)
			clear(x[cols:][:blockLen])
			x[cols+blockLen+3] = float32(math.Inf(-1))
			x[cols+2*blockLen+31] = nan
			for i := range blockLen {
				x[cols+3*blockLen+i] *= 1e-35
			}
			in := Input{x: x, n: tokens, cols: cols}
			words := make([]uint32, lineRows*cols/blockLen*lineWords)
			for i := range words {
				words[i] = 0xdeadbeef
			}
			in.fillLines(words, f, AVX512, 0, tokens, 0, cols, func(int, int, int) {})
			oracle, rows := quantize, f.rows()
			if f == pairs {
				oracle = quantizePair
			}
			for row := range lineRows {
				want := make([]uint32, rows*cols/blockLen*intWords)
				if row/rows < tokens {
					oracle(want, x[row/rows*cols:][:cols], rows)
				}
				for b := range cols / blockLen {
					record, line := want[b*rows*intWords:], words[b*lineRows*lineWords:][:lineRows*lineWords]
					for i := range blockLen / 4 {
						if got, want := line[row*blockLen/4+i], record[i*rows+row%rows]; got != want {
							t.Fatalf("row %d block %d: codes %d = %#x, want %#x", row, b, i, got, want)
						}
					}
					for i, at := range []int{8, 10} { // scale and sum
						if got, want := line[lineRows*(blockLen/4+i)+row], record[at*rows+row%rows]; got != want {
							t.Fatalf("row %d block %d: number %d = %#x, want %#x", row, b, i, got, want)
						}
					}
				}
			}
		})
	}
}
