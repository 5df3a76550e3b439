package cpu

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"lessrag/lesskernels"
)

// TestMulChain compares a chain with its products one after the other, bit by bit: of
// codes, of plain numbers, and of rows that are no whole number of blocks.
func TestMulChain(t *testing.T) {
	pool := NewPool(2)
	defer pool.Close()
	const cols, last = 96, 40
	for _, isa := range isas() {
		for _, test := range []struct {
			first, second lesskernels.DType
			rows          int
			chained       bool
		}{
			{lesskernels.Q4_1, lesskernels.Q4_1, 224, true},
			{lesskernels.Q8_0, lesskernels.Q5_0, 64, true},
			{lesskernels.Q4_0, lesskernels.F32, 64, false},
			{lesskernels.F16, lesskernels.Q4_1, 64, false},
			{lesskernels.Q4_1, lesskernels.F32, 40, false},
		} {
			rng := rand.New(rand.NewPCG(7, uint64(test.rows)))
			pack := func(d lesskernels.DType, rows, cols int) *Matrix {
				m, err := Pack(d, randomWeights(rng, d, rows*cols), rows, cols, isa)
				if err != nil {
					t.Fatal(err)
				}
				return m
			}
			gate, up, down := pack(test.first, test.rows, cols), pack(test.first, test.rows, cols), pack(test.second, last, test.rows)
			for _, n := range []int{1, fewChained, 13, 61} {
				t.Run(fmt.Sprintf("%v/%v %v/rows=%d/n=%d", isa, test.first, test.second, test.rows, n), func(t *testing.T) {
					x := randomFloats(rng, n*cols)
					run := func(chain bool) (y []float32, finished []atomic.Int32) {
						var in, next Input
						in.Set(x, n, cols)
						a, b := make([]float32, n*test.rows), make([]float32, n*test.rows)
						finished = make([]atomic.Int32, n*test.rows)
						next.SetColumns(a, n, test.rows, func(row, from, to int) {
							for i := row*test.rows + from; i < row*test.rows+to; i++ {
								finished[i].Add(1)
								a[i] *= b[i]
							}
						})
						products := []Product{{Matrix: gate, Dst: a}, {Matrix: up, Dst: b}}
						if chains(&in, &next, down, products) != (test.chained && n >= fewChained) {
							t.Fatalf("of %d tokens: chained or not against what is expected", n)
						}
						if chain {
							MulChain(pool, &in, &next, down, products...)
						} else {
							MulAll(pool, &in, products...)
						}
						y = make([]float32, n*last)
						down.Mul(pool, y, &next)
						return y, finished
					}
					got, finished := run(true)
					want, _ := run(false)
					if !slices.Equal(got, want) {
						t.Errorf("the chain gives another product")
					}
					for i := range finished {
						if c := finished[i].Load(); c != 1 {
							t.Fatalf("value %d was finished %d times", i, c)
						}
					}
				})
			}
		}
	}
}
