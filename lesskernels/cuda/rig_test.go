package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"lessrag/lesskernels/cuda/device"
	"lessrag/lesskernels/cuda/device/devicetest"
	"lessrag/lesskernels/cuda/ptx"
)

// rig is a device with the kernels loaded, for one test.
type rig struct {
	t tester
	d device.Device
	s device.Stream
	*Kernels
	random *rand.Rand
}

// tester is what checks need of a test; a mutant's has another one.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Cleanup(func())
}

// onEach runs a test on the interpreter, and on the card where there is one.
func onEach(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Run("interpreter", func(t *testing.T) { test(t, newRig(t, ptx.New(1<<28))) })
	t.Run("card", func(t *testing.T) { test(t, newRig(t, devicetest.Card(t))) })
}

func newRig(t *testing.T, d device.Device) *rig {
	t.Helper()
	r := &rig{t: t, d: d, random: rand.New(rand.NewPCG(1, 2))}
	var err error
	r.s, err = d.NewStream()
	r.must(err)
	r.Kernels, err = Load(d)
	r.must(err)
	t.Cleanup(func() { // after what put took was given back
		if err := errors.Join(r.s.Close(), r.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// in is the rig for a part of its test.
func (r *rig) in(t *testing.T) *rig {
	part := *r
	part.t = t
	return &part
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// put takes memory of the device for values, and gives it back when the test ends.
func put[T any](r *rig, values []T) device.Pointer {
	r.t.Helper()
	data, err := binary.Append(nil, binary.LittleEndian, values)
	r.must(err)
	p, err := r.d.Alloc(int64(max(1, len(data))))
	r.must(err)
	r.t.Cleanup(func() { r.must(r.d.Free(p)) })
	r.must(r.s.Upload(p, data))
	return p
}

// get reads n values.
func get[T any](r *rig, p device.Pointer, n int) []T {
	r.t.Helper()
	values := make([]T, n)
	data := make([]byte, binary.Size(values))
	r.must(r.s.Download(data, p))
	_, err := binary.Decode(data, binary.LittleEndian, values)
	r.must(err)
	return values
}

func (r *rig) normal(n int, scale float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.random.NormFloat64() * scale)
	}
	return x
}

// nothing is n numbers that are none, as outputs are before they are written.
func nothing(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(math.NaN())
	}
	return x
}

// brains rounds to bf16, and says what the rounded numbers are.
func brains(x []float32) (bits []uint16, rounded []float32) {
	bits, rounded = make([]uint16, len(x)), make([]float32, len(x))
	for i, v := range x {
		b := math.Float32bits(v)
		bits[i] = uint16((b + 0x7fff + b>>16&1) >> 16)
		rounded[i] = brain(bits[i])
	}
	return bits, rounded
}

func brain(bits uint16) float32 { return math.Float32frombits(uint32(bits) << 16) }

func fromBrains(bits []uint16) []float32 {
	x := make([]float32, len(bits))
	for i, b := range bits {
		x[i] = brain(b)
	}
	return x
}

// near checks that got is within tolerance of want, relative to the largest of want.
func near(t tester, what string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatal(fmt.Sprintf("%s: %d numbers, want %d", what, len(got), len(want)))
	}
	largest, worst, at := 0.0, 0.0, 0
	for _, x := range want {
		largest = math.Max(largest, math.Abs(x))
	}
	for i, x := range want {
		if off := math.Abs(float64(got[i]) - x); !(off <= worst) {
			worst, at = off, i
		}
	}
	if !(worst <= tolerance*largest) {
		t.Errorf("%s: number %d is %v, want %v: off by %.2g of the largest, at most %g", what, at, got[at], want[at], worst/largest, tolerance)
	}
}

// roundedTo is what rounding a result to bf16 costs, of the largest number.
const roundedTo = 1.0 / 256
