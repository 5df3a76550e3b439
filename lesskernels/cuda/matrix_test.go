package cuda

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// weightTypes are those that a card reads, with what their packed form may be off by, of the largest
// result: only scales of scales are rounded.
var weightTypes = map[lesskernels.DType]float64{
	lesskernels.F32: 2e-6, lesskernels.F16: 2e-6, lesskernels.BF16: 2e-6, lesskernels.Q4_0: 2e-6, lesskernels.Q4_1: 2e-6, lesskernels.Q5_0: 2e-6, lesskernels.Q5_1: 2e-6,
	lesskernels.Q8_0: 2e-6, lesskernels.Q4_K: 2e-3, lesskernels.Q5_K: 2e-3, lesskernels.Q6_K: 5e-4,
}

// weights are random blocks, and what they stand for.
func (r *rig) weights(kind lesskernels.DType, outs, cols int) (data []byte, values []float32) {
	elements, size, _ := kind.BlockSize()
	data = make([]byte, int64(outs*cols)/elements*size)
	for i := range data {
		data[i] = byte(r.random.Uint32())
	}
	for at := 0; at < len(data); at += int(size) {
		block := data[at:][:size]
		switch kind {
		case lesskernels.F32:
			binary.LittleEndian.PutUint32(block, math.Float32bits(float32(r.random.NormFloat64()*0.1)))
		case lesskernels.F16:
			binary.LittleEndian.PutUint16(block, toHalf(float32(r.random.NormFloat64()*0.1)))
		case lesskernels.BF16:
			bits, _ := brains([]float32{float32(r.random.NormFloat64() * 0.1)})
			binary.LittleEndian.PutUint16(block, bits[0])
		case lesskernels.Q4_K, lesskernels.Q5_K:
			binary.LittleEndian.PutUint16(block, toHalf(float32(r.random.NormFloat64()*0.001)))
			binary.LittleEndian.PutUint16(block[2:], toHalf(float32(r.random.NormFloat64()*0.01)))
		case lesskernels.Q6_K:
			binary.LittleEndian.PutUint16(block[208:], toHalf(float32(r.random.NormFloat64()*0.001)))
		case lesskernels.Q4_1, lesskernels.Q5_1:
			binary.LittleEndian.PutUint16(block[2:], toHalf(float32(r.random.NormFloat64()*0.1)))
			fallthrough
		default:
			binary.LittleEndian.PutUint16(block, toHalf(float32(r.random.NormFloat64()*0.01)))
		}
	}
	values = make([]float32, outs*cols)
	r.must(cpu.Dequantize(values, kind, data))
	return data, values
}

func (r *rig) upload(kind lesskernels.DType, data []byte, outs, cols int) *Matrix {
	r.t.Helper()
	packed, err := Pack(kind, data, outs, cols)
	r.must(err)
	m, err := packed.Upload(r.d, r.s)
	r.must(err)
	r.t.Cleanup(func() { r.must(m.Free(r.d)) })
	return m
}

func TestMultiply(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, kind := range slices.Sorted(maps.Keys(weightTypes)) {
			t.Run(kind.String(), func(t *testing.T) {
				for _, p := range []product{{1, 256, 1}, {63, 256, 3}, {64, 512, 16}, {65, 768, 17}, {130, 256, 64}, {40, 256, 70}, {17, 288, 2}, {17, 32, 20}} {
					if elements, _, _ := kind.BlockSize(); p.cols%int(elements) == 0 {
						r.in(t).checkMultiply(kind, p)
					}
				}
			})
		}
	})
}

type product struct{ outs, cols, rows int }

func (r *rig) checkMultiply(kind lesskernels.DType, p product) {
	data, w := r.weights(kind, p.outs, p.cols)
	m := r.upload(kind, data, p.outs, p.cols)
	bits, x := brains(r.normal(p.rows*p.cols, 1))
	stride := p.outs + 5
	y := put(r, nothing(p.rows*stride))
	r.must(r.Multiply(r.s, m, put(r, bits), y, p.rows, stride))
	all := get[float32](r, y, p.rows*stride)
	var got []float32
	var want []float64
	largest, terms := 0.0, 0.0 // what comes out, and what it would be if signs did not cancel
	for row := range p.rows {
		for o := range p.outs {
			sum, squares := 0.0, 0.0
			for c := range p.cols {
				term := float64(x[row*p.cols+c]) * float64(w[o*p.cols+c])
				sum += term
				squares += term * term
			}
			want = append(want, sum)
			largest, terms = max(largest, math.Abs(sum)), max(terms, math.Sqrt(squares))
		}
		line := all[row*stride:][:stride]
		got = append(got, line[:p.outs]...)
		for _, beyond := range line[p.outs:] {
			if beyond == beyond {
				r.t.Fatal(fmt.Sprintf("%+v: row %d is written beyond its outputs", p, row))
			}
		}
	}
	near(r.t, fmt.Sprintf("%v %+v", kind, p), got, want, weightTypes[kind]*max(1, terms/largest))
}

// A row gives the same alone and among many: what runs beside an answer does not change it.
func TestMultiplyOfAnyBatch(t *testing.T) {
	const outs, cols, rows = 70, 512, 80
	onEach(t, func(t *testing.T, r *rig) {
		for _, kind := range slices.Sorted(maps.Keys(weightTypes)) {
			data, _ := r.weights(kind, outs, cols)
			m := r.upload(kind, data, outs, cols)
			wide := r.normal(rows*cols, 1)
			for i := range wide { // so that sums are rounded
				wide[i] = float32(math.Ldexp(float64(wide[i]), -r.random.IntN(24)))
			}
			bits, _ := brains(wide)
			x, y := put(r, bits), put(r, nothing(rows*outs))
			r.must(r.Multiply(r.s, m, x, y, rows, outs))
			many := get[float32](r, y, rows*outs)
			for _, n := range []int{1, 5, 16, 17} {
				r.must(r.Multiply(r.s, m, x, y, n, outs))
				if got := get[float32](r, y, n*outs); !slices.Equal(got, many[:n*outs]) {
					t.Errorf("%v: %d rows alone give other bits than among %d", kind, n, rows)
				}
			}
		}
	})
}

func TestEmbed(t *testing.T) {
	const outs = 37
	tokens := []int32{0, 36, 5, 5}
	onEach(t, func(t *testing.T, r *rig) {
		for _, kind := range slices.Sorted(maps.Keys(weightTypes)) {
			tolerance, cols := weightTypes[kind], 544
			if elements, _, _ := kind.BlockSize(); elements > 32 {
				cols = 512
			}
			data, w := r.weights(kind, outs, cols)
			m := r.upload(kind, data, outs, cols)
			x := put(r, nothing(len(tokens)*cols))
			r.must(r.Embed(r.s, m, put(r, tokens), x, len(tokens)))
			var want []float64
			for _, token := range tokens {
				for _, v := range w[int(token)*cols:][:cols] {
					want = append(want, float64(v))
				}
			}
			near(t, kind.String(), get[float32](r, x, len(want)), want, tolerance)
		}
	})
}

func TestPackRefuses(t *testing.T) {
	for _, test := range []struct {
		kind              lesskernels.DType
		bytes, outs, cols int
		want              string
	}{
		{lesskernels.DType(10), 128, 1, 32, "type 10 [1, 32]: the type is not read on a card"},
		{lesskernels.F16, 96, 1, 48, "columns are no multiple of 32"},
		{lesskernels.Q4_1, 20, 1, 33, "20 bytes are not of that shape"},
		{lesskernels.Q4_1, 21, 1, 32, "21 bytes"},
		{lesskernels.Q4_1, 0, 0, 32, "0 bytes"},
		{lesskernels.Q6_K, 210, 1, 128, "210 bytes"},
	} {
		if _, err := Pack(test.kind, make([]byte, test.bytes), test.outs, test.cols); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want an error that says %q", err, test.want)
		}
	}
}

// What packing keeps exactly: everything but scales of scales, which it rounds to 11 bits.
func TestPackedBytes(t *testing.T) {
	for kind, want := range map[lesskernels.DType]float64{lesskernels.Q4_0: 5, lesskernels.Q4_1: 5, lesskernels.Q8_0: 8.5, lesskernels.Q6_K: 9,
		lesskernels.F32: 32, lesskernels.F16: 16, lesskernels.BF16: 16, lesskernels.Q5_0: 8.5, lesskernels.Q5_1: 9, lesskernels.Q4_K: 5, lesskernels.Q5_K: 9} {
		_, size, _ := kind.BlockSize()
		elements, _, _ := kind.BlockSize()
		const outs = 16
		p, err := Pack(kind, make([]byte, outs*256/elements*size), outs, 256)
		if err != nil {
			t.Fatal(err)
		}
		if got := float64(p.Bytes()) * 8 / (outs * 256); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v takes %v bits a weight, want %v", kind, got, want)
		}
	}
}
