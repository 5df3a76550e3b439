package cpu

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"lessrag/lesskernels"
)

// TestDequantize checks every type against the reference implementation:
// testdata/make_fixture.py made dequantize.json.
func TestDequantize(t *testing.T) {
	raw, err := os.ReadFile("testdata/dequantize.json")
	if err != nil {
		t.Fatal(err)
	}
	var fixtures map[string]struct {
		Data   string
		Values []float32
	}
	if err := json.Unmarshal(raw, &fixtures); err != nil {
		t.Fatal(err)
	}
	for _, dtype := range allTypes {
		if dtype == lesskernels.F32 {
			continue // its own reference
		}
		t.Run(dtype.String(), func(t *testing.T) {
			f, ok := fixtures[dtype.String()]
			if !ok {
				t.Fatal("no fixture")
			}
			data, err := hex.DecodeString(f.Data)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]float32, len(f.Values))
			if err := Dequantize(got, dtype, data); err != nil {
				t.Fatal(err)
			}
			for i, want := range f.Values {
				if diff := math.Abs(float64(got[i] - want)); !(diff <= 1e-6*math.Abs(float64(want))+1e-9) {
					t.Fatalf("value %d = %v, want %v", i, got[i], want)
				}
			}
		})
	}
}

// TestRefusals checks that wrong sizes and types are errors that say so.
func TestRefusals(t *testing.T) {
	for name, err := range map[string]error{
		"not supported":    Dequantize(make([]float32, 1), lesskernels.DType(99), make([]byte, 1)),
		"whole number":     Dequantize(make([]float32, 33), lesskernels.Q4_0, make([]byte, 18)),
		"need 18 bytes":    Dequantize(make([]float32, 32), lesskernels.Q4_0, make([]byte, 17)),
		"multiple of":      packError(lesskernels.Q8_0, 34, 1, 33),
		"rows of 34 bytes": packError(lesskernels.Q8_0, 34, 2, 32),
		"must be positive": packError(lesskernels.F32, 0, 0, 4),
		"type is not":      packError(lesskernels.DType(99), 4, 1, 1),
		"bytes expected":   packError(lesskernels.Q4_1, 20, math.MaxInt32, math.MaxInt32/32*32),
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not say %q", err, name)
		}
	}
}

func packError(t lesskernels.DType, bytes, rows, cols int) error {
	_, err := Pack(t, make([]byte, bytes), rows, cols, Portable)
	return err
}

// TestFloat16 goes through all 65,536 numbers of both 16-bit formats, and
// checks the roundings between them against float64 arithmetic.
func TestFloat16(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		if x := fromF16(h); x == x && toF16(x) != h {
			t.Fatalf("binary16 %#04x = %v comes back as %#04x", h, x, toF16(x))
		} else if x != x && fromF16(toF16(x)) == fromF16(toF16(x)) {
			t.Fatalf("binary16 %#04x is no NaN any more", h)
		}
		if x := fromBF16(h); x == x && toBF16(x) != h {
			t.Fatalf("bfloat16 %#04x = %v comes back as %#04x", h, x, toBF16(x))
		} else if x != x && fromBF16(toBF16(x)) == fromBF16(toBF16(x)) {
			t.Fatalf("bfloat16 %#04x is no NaN any more", h)
		}
		if h&0x7fff >= 0x7bff {
			continue // the next is infinite
		}
		low, high := fromF16(h), fromF16(h+1)
		even := h + h&1
		for x, want := range map[float32]uint16{
			low + (high-low)*0.49: h, low + (high-low)*0.51: h + 1, low + (high-low)*0.5: even,
		} {
			if got := toF16(x); got != want {
				t.Fatalf("%v becomes binary16 %#04x, want %#04x", x, got, want)
			}
		}
	}
	if toF16(65519) != 0x7bff || toF16(65520) != 0x7c00 || toF16(float32(math.Inf(-1))) != 0xfc00 {
		t.Error("binary16 does not end at 65,520")
	}
	for x, want := range map[float32]uint16{1.00390625: 0x3f80, 1.01171875: 0x3f82, 3.4e38: 0x7f80} {
		if got := toBF16(x); got != want {
			t.Errorf("%v becomes bfloat16 %#04x, want %#04x", x, got, want)
		}
	}
}

func TestChooseISA(t *testing.T) {
	for _, c := range []struct {
		has  ISA
		want string
		is   ISA
	}{
		{AVX512, "", AVX512}, {AVX512, "avx512", AVX512}, {AVX512, "avx2", AVX2}, {AVX512, "portable", Portable},
		{AVX512BF16, "", AVX512BF16}, {AVX512BF16, "avx512bf16", AVX512BF16}, {AVX512BF16, "avx512", AVX512}, {AVX512, "avx512bf16", AVX512},
		{AMX, "", AMX}, {AMX, "amx", AMX}, {AMX, "avx512bf16", AVX512BF16}, {AMX, "avx512", AVX512}, {AVX512BF16, "amx", AVX512BF16},
		{AVX2, "avx512", AVX2}, {AVX2, "portable", Portable}, {Portable, "avx2", Portable}, {AVX2, "sse", AVX2},
	} {
		if got := chooseISA(c.has, c.want); got != c.is {
			t.Errorf("a machine with %v asked for %q uses %v, want %v", c.has, c.want, got, c.is)
		}
	}
}
