package cpu

import (
	"math"
	"testing"
)

func TestLogOf(t *testing.T) {
	for _, x := range []float64{0, -1, math.Inf(1), math.Inf(-1), math.NaN(), 5e-324} {
		if got, want := logOf(x), math.Log(x); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("log of %v is %v, want %v", x, got, want)
		}
	}
	for _, x := range []float64{1, math.Sqrt2, math.Sqrt2 / 2, math.Nextafter(1, 0), math.Nextafter(1, 2), math.MaxFloat64, 2.3e-308} {
		checkLog(t, x)
	}
	for x := 1e-30; x < 1e30; x *= 1.0137 {
		checkLog(t, x)
	}
}

func checkLog(t *testing.T, x float64) {
	t.Helper()
	if got, want := logOf(x), math.Log(x); !(math.Abs(got-want) <= 1e-10*math.Abs(want)) {
		t.Errorf("log of %v is %v, want %v", x, got, want)
	}
}
