package cpu

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/lesskernels"
)

// TestSetMade compares products of rows that are made when they are read, of few by every
// thread and of many by one each, with those of the same rows made before, bit by bit.
func TestSetMade(t *testing.T) {
	const cols, rows = 96, 70
	for _, isa := range isas() {
		for _, dtype := range []lesskernels.DType{lesskernels.Q4_1, lesskernels.F32} {
			rng := rand.New(rand.NewPCG(8, uint64(dtype)))
			m, err := Pack(dtype, randomWeights(rng, dtype, rows*cols), rows, cols, isa)
			if err != nil {
				t.Fatal(err)
			}
			for _, threads := range []int{1, 2, 5} {
				t.Run(fmt.Sprintf("%v/%v/threads=%d", isa, dtype, threads), func(t *testing.T) {
					pool := NewPool(threads)
					defer pool.Close()
					var made Input // for all sizes, as an engine has it
					for n := range fewOwn + 3 {
						src := randomFloats(rng, n*cols)
						double := func(dst, src []float32) {
							for i, v := range src {
								dst[i] = 2 * v
							}
						}
						x := make([]float32, n*cols)
						double(x, src)
						var before Input
						before.Set(x, n, cols)
						made.SetMade(make([]float32, n*cols), src, n, cols, double)
						if made.private != (n <= fewOwn) {
							t.Fatalf("%d rows: every thread makes them: %v", n, made.private)
						}
						for again := range 2 { // the second time, they are there
							got, want := inBothForms(m, n), inBothForms(m, n)
							MulAll(pool, &made, got...)
							MulAll(pool, &before, want...)
							for i := range got {
								if !slices.Equal(got[i].Dst, want[i].Dst) {
									t.Fatalf("%d rows, time %d: product %d differs", n, again, i)
								}
							}
						}
					}
				})
			}
		}
	}
}

// inBothForms are the products of n rows with a matrix, of codes and of pairs.
func inBothForms(m *Matrix, n int) []Product {
	return []Product{{Matrix: m, Dst: make([]float32, n*m.rows)}, {Matrix: m, Dst: make([]float32, n*m.rows), Pairs: true}}
}

// TestFinish looks whether every column is finished once, after it was computed for all
// rows and with those that belong together, and whether products are added.
func TestFinish(t *testing.T) {
	const cols = 64
	pool := NewPool(3)
	defer pool.Close()
	for _, isa := range isas() {
		for _, rows := range []int{48, 70, 128} {
			rng := rand.New(rand.NewPCG(9, uint64(rows)))
			m, err := Pack(lesskernels.Q4_1, randomWeights(rng, lesskernels.Q4_1, rows*cols), rows, cols, isa)
			if err != nil {
				t.Fatal(err)
			}
			for _, together := range []int{0, 16, 64, 24} {
				for _, n := range []int{1, fewOwn, 13} {
					t.Run(fmt.Sprintf("%v/rows=%d/together=%d/n=%d", isa, rows, together, n), func(t *testing.T) {
						var in Input
						in.Set(randomFloats(rng, n*cols), n, cols)
						want, got := inBothForms(m, n), inBothForms(m, n)
						MulAll(pool, &in, want...)
						counts := make([][]int, len(got)) // of a column, which one thread finishes
						for i := range got {
							counts[i] = make([]int, rows)
							old := randomFloats(rng, n*rows)
							copy(got[i].Dst, old)
							for j, v := range old {
								want[i].Dst[j] += v
							}
							got[i].Add, got[i].Together = true, together
							got[i].Finish = func(from, to int) {
								size := got[i].group() * panelRows
								if from%size != 0 || to != min(from+size, rows) {
									t.Errorf("product %d: columns [%d, %d) are finished together", i, from, to)
								}
								for column := from; column < to; column++ {
									counts[i][column]++
									for row := range n {
										if at := row*rows + column; got[i].Dst[at] != want[i].Dst[at] {
											t.Errorf("product %d: row %d of column %d is %v when it is finished, want %v", i, row, column, got[i].Dst[at], want[i].Dst[at])
										}
									}
								}
							}
						}
						MulAll(pool, &in, got...)
						for i := range got {
							for column, c := range counts[i] {
								if c != 1 {
									t.Fatalf("product %d: column %d was finished %d times", i, column, c)
								}
							}
						}
					})
				}
			}
		}
	}
}
