package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/lesskernels"
)

var allTypes = []lesskernels.DType{
	lesskernels.F32, lesskernels.F16, lesskernels.BF16,
	lesskernels.Q4_0, lesskernels.Q4_1, lesskernels.Q5_0, lesskernels.Q5_1, lesskernels.Q8_0,
	lesskernels.Q4_K, lesskernels.Q5_K, lesskernels.Q6_K,
}

// isas are the instruction sets of this machine.
func isas() []ISA {
	var list []ISA
	for i := Portable; i <= Best(); i++ {
		list = append(list, i)
	}
	return list
}

// randomWeights makes n values of a type: random codes, and scales of about
// the size that makes the weights lie within ±1.
func randomWeights(rng *rand.Rand, t lesskernels.DType, n int) []byte {
	elements, size, _ := t.BlockSize()
	data := make([]byte, int64(n)/elements*size)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	f16 := func(b []byte, x float32) { binary.LittleEndian.PutUint16(b, toF16(x*(0.5+rng.Float32()))) }
	for b := data; len(b) > 0; b = b[size:] {
		switch t {
		case lesskernels.F32:
			binary.LittleEndian.PutUint32(b, math.Float32bits(rng.Float32()*2-1))
		case lesskernels.F16:
			f16(b, rng.Float32()-0.5)
		case lesskernels.BF16:
			binary.LittleEndian.PutUint16(b, toBF16(rng.Float32()*2-1))
		case lesskernels.Q4_0:
			f16(b, 0.1)
		case lesskernels.Q4_1:
			f16(b, 0.1)
			f16(b[2:], -0.7)
		case lesskernels.Q5_0:
			f16(b, -0.05)
		case lesskernels.Q5_1:
			f16(b, 0.05)
			f16(b[2:], -0.8)
		case lesskernels.Q8_0:
			f16(b, 0.01)
		case lesskernels.Q4_K, lesskernels.Q5_K:
			f16(b, 0.003)
			f16(b[2:], 0.01)
		case lesskernels.Q6_K:
			f16(b[208:], 0.0003)
		}
	}
	return data
}

func randomFloats(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// quantized is x as the rows of a form hold it.
func quantized(x []float32, f form) []float64 {
	out, n := make([]float64, len(x)), f.rows()
	record := make([]uint32, n*intWords)
	for b := 0; b+blockLen <= len(x); b += blockLen {
		if f == pairs {
			quantizePair(record, x[b:b+blockLen], n)
		} else {
			quantize(record, x[b:b+blockLen], n)
		}
		for row := range n {
			scale := float64(math.Float32frombits(record[8*n+row]))
			for j := range blockLen {
				out[b+j] += scale * float64(int8(record[j/4*n+row]>>(j%4*8)))
			}
		}
	}
	return out
}

// TestMul compares every layout on every instruction set with float64
// products of the dequantised weights, on odd sizes.
func TestMul(t *testing.T) {
	pool := NewPool(2)
	defer pool.Close()
	for _, isa := range isas() {
		for _, dtype := range allTypes {
			for _, widened := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v/%v/float32=%v", isa, dtype, widened), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(1, uint64(dtype)))
					unit, _, _ := dtype.BlockSize()
					for _, size := range [][3]int{{1, 1, 1}, {1, 17, 3}, {3, 16, 1}, {13, 35, 2}, {29, 50, 3}} {
						testMulSize(t, rng, pool, isa, dtype, widened, size[0], size[1], size[2]*int(unit))
					}
					for n := range 27 {
						testMulSize(t, rng, pool, isa, dtype, widened, n, 20, 2*int(unit))
					}
				})
			}
		}
	}
}

func testMulSize(t *testing.T, rng *rand.Rand, pool *Pool, isa ISA, dtype lesskernels.DType, widened bool, n, rows, cols int) {
	t.Helper()
	data := randomWeights(rng, dtype, rows*cols)
	build := Pack
	if widened {
		build = PackFloat32
	}
	m, err := build(dtype, data, rows, cols, isa)
	if err != nil {
		t.Fatal(err)
	}
	weights := make([]float32, rows*cols)
	if err := Dequantize(weights, dtype, data); err != nil {
		t.Fatal(err)
	}
	x := randomFloats(rng, n*cols)
	var in Input
	in.Set(x, n, cols)
	for _, twice := range []bool{false, true} {
		product := Product{Matrix: m, Dst: make([]float32, n*rows), Pairs: twice}
		seen := make([]float64, len(x))
		for i, v := range x {
			seen[i] = float64(v)
		}
		if f := product.form(); f != plain {
			seen = quantized(x, f)
		}
		MulAll(pool, &in, product)
		compareProduct(t, dtype, product.Dst, seen, weights, n, rows, cols)
	}
}

// compareProduct fails where got is not the product of what the kernels saw.
func compareProduct(t *testing.T, dtype lesskernels.DType, got []float32, seen []float64, weights []float32, n, rows, cols int) {
	t.Helper()
	for i := range n {
		for r := range rows {
			want, size := 0.0, 0.0
			for c := range cols {
				p := seen[i*cols+c] * float64(weights[r*cols+c])
				want += p
				size += math.Abs(p)
			}
			tolerance := 1e-6*size + 1e-7
			if dtype == lesskernels.Q4_K || dtype == lesskernels.Q5_K || dtype == lesskernels.Q6_K {
				tolerance = 1e-3*size + 1e-6 // scales and minima are rounded to f16
			}
			if diff := math.Abs(float64(got[i*rows+r]) - want); !(diff <= tolerance) {
				t.Fatalf("n %d rows %d cols %d: (%d, %d) = %v, want %v", n, rows, cols, i, r, got[i*rows+r], want)
			}
		}
	}
}

// TestRow checks that a row read back from the packed form is the dequantised one.
func TestRow(t *testing.T) {
	for _, dtype := range allTypes {
		t.Run(dtype.String(), func(t *testing.T) {
			unit, _, _ := dtype.BlockSize()
			rows, cols := 19, 3*int(unit)
			data := randomWeights(rand.New(rand.NewPCG(3, 4)), dtype, rows*cols)
			want := make([]float32, rows*cols)
			if err := Dequantize(want, dtype, data); err != nil {
				t.Fatal(err)
			}
			m, err := Pack(dtype, data, rows, cols, Portable)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]float32, cols)
			for r := range rows {
				m.Row(got, r)
				for c, x := range got {
					if diff := math.Abs(float64(x - want[r*cols+c])); !(diff <= 5e-3) || diff > 0 && dtype != lesskernels.Q4_K && dtype != lesskernels.Q5_K && dtype != lesskernels.Q6_K {
						t.Fatalf("row %d column %d = %v, want %v", r, c, x, want[r*cols+c])
					}
				}
			}
		})
	}
}

// TestMulAlone checks that a token's product has the same bits alone and in
// batches of any size, also when several matrices share a Run.
func TestMulAlone(t *testing.T) {
	pool := NewPool(2)
	defer pool.Close()
	for _, isa := range isas() {
		for _, dtype := range allTypes {
			t.Run(fmt.Sprintf("%v/%v", isa, dtype), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(11, uint64(dtype)))
				const rows, cols, most = 37, 512, 29
				var ms [2]*Matrix
				for i := range ms {
					m, err := Pack(dtype, randomWeights(rng, dtype, rows*cols), rows, cols, isa)
					if err != nil {
						t.Fatal(err)
					}
					ms[i] = m
				}
				x := randomFloats(rng, most*cols)
				alone, alonePairs := make([]float32, most*rows), make([]float32, most*rows)
				for i := range most {
					var in Input
					in.Set(x[i*cols:], 1, cols)
					ms[1].Mul(pool, alone[i*rows:][:rows], &in)
					MulAll(pool, &in, Product{Matrix: ms[1], Dst: alonePairs[i*rows:][:rows], Pairs: true})
				}
				var in Input // one for all sizes, as an engine has it
				for n := 1; n <= most; n++ {
					in.Set(x, n, cols)
					products := []Product{{Matrix: ms[0], Dst: make([]float32, n*rows)}, {Matrix: ms[1], Dst: make([]float32, n*rows)}, {Matrix: ms[1], Dst: make([]float32, n*rows), Pairs: true}}
					MulAll(pool, &in, products...)
					for p, want := range [][]float32{alone, alonePairs} {
						for i, y := range products[1+p].Dst {
							if math.Float32bits(y) != math.Float32bits(want[i]) {
								t.Fatalf("of %d tokens, pairs %v: (%d, %d) = %v, alone %v", n, p == 1, i/rows, i%rows, y, want[i])
							}
						}
					}
				}
			})
		}
	}
}

// TestSetEach: a row is finished once, before any form of it is made, whatever is multiplied with it later.
func TestSetEach(t *testing.T) {
	pool := NewPool(2)
	defer pool.Close()
	const rows, cols = 40, 256
	rng := rand.New(rand.NewPCG(5, 1))
	weights := floatBytes(randomFloats(rng, rows*cols))
	for _, isa := range isas() {
		first, err := PackWords(lesskernels.F32, weights, rows, cols, isa)
		if err != nil {
			t.Fatal(err)
		}
		second, err := PackFloat32(lesskernels.F32, weights, rows, cols, isa)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 13, 200} { // by one thread and by two
			x := randomFloats(rng, n*cols)
			doubled := make([]float32, len(x))
			for i, v := range x {
				doubled[i] = 2 * v
			}
			for _, order := range [][]*Matrix{{first, second}, {second, first}} {
				unfinished, calls := slices.Clone(x), make([]int, n)
				var in, whole Input
				whole.Set(doubled, n, cols)
				in.SetEach(unfinished, n, cols, func(row int) {
					calls[row]++
					for i := row * cols; i < (row+1)*cols; i++ {
						unfinished[i] *= 2
					}
				})
				for _, m := range order {
					got, want := make([]float32, n*rows), make([]float32, n*rows)
					m.Mul(pool, got, &in)
					m.Mul(pool, want, &whole)
					if !slices.Equal(got, want) {
						t.Errorf("%v, %d rows: the product of rows that were finished late differs", isa, n)
					}
				}
				if slices.Max(calls) != 1 || slices.Min(calls) != 1 {
					t.Errorf("%v: rows were finished %v times", isa, calls)
				}
			}
		}
	}
}

// TestUnitsCoverPanels cuts products of several forms at every unit: each panel is
// computed, and by one of the two parts only.
func TestUnitsCoverPanels(t *testing.T) {
	const cols = 64
	rng := rand.New(rand.NewPCG(5, 6))
	var matrices []*Matrix
	for _, rows := range []int{48, 33, 16} {
		m, err := Pack(lesskernels.Q4_1, randomWeights(rng, lesskernels.Q4_1, rows*cols), rows, cols, Best())
		if err != nil {
			t.Fatal(err)
		}
		matrices = append(matrices, m)
	}
	for _, n := range []int{1, fewPairs, 9} {
		var in Input
		in.Set(randomFloats(rng, n*cols), n, cols)
		products := func() []Product {
			var all []Product
			for i, m := range matrices {
				dst := make([]float32, n*m.rows)
				for j := range dst {
					dst[j] = float32(math.NaN())
				}
				all = append(all, Product{Matrix: m, Dst: dst, Pairs: i == 1})
			}
			return all
		}
		whole, units := products(), 0
		MulAll(NewPool(1), &in, whole...)
		for _, p := range whole {
			units += p.units(n)
		}
		for cut := range units + 1 {
			first, second := products(), products()
			for thread, range_ := range [][2]int{{0, cut}, {cut, units}} {
				products := [][]Product{first, second}[thread]
				unitsOf(products, in.mine(0, products), range_[0], range_[1])
			}
			for i, p := range whole {
				for j, want := range p.Dst {
					a, b := first[i].Dst[j], second[i].Dst[j]
					if (a == a) == (b == b) || a == a && a != want || b == b && b != want {
						t.Fatalf("n %d, cut at %d of %d: product %d value %d is %v and %v, want %v in one part", n, cut, units, i, j, a, b, want)
					}
				}
			}
		}
	}
}
