package lesskernels

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// someMaps are small maps of random numbers that BF16 holds exactly.
func someMaps(dtype DType) *Maps {
	rng := rand.New(rand.NewPCG(11, 12))
	shape := FeatureShape{Heads: 4, KVHeads: 2, HeadDim: 3, Hidden: 5, Rank: 2}
	m := &Maps{Type: dtype, Header: Header{
		Model: strings.Repeat("0af9", 16), Inputs: PreRoPE, Layers: 2, Shape: shape,
		Policies: []string{"h2o", "sinks"}, Budgets: []int{128, 64}, Trained: 2048,
		Data: []string{"a.html"}, Epsilon: Epsilon, Gates: map[string]GateReport{"h2o": {Validated: 8192, On: 3}, Others: {Validated: 2048, On: 1}},
	}}
	for layer := range m.Header.Layers {
		var w FeatureWeights
		for _, t := range w.tensors(layer, shape) {
			n := 1
			for _, size := range t.shape {
				n *= size
			}
			for range n {
				*t.values = append(*t.values, float32(rng.IntN(255)-127)/64)
			}
		}
		if layer == 1 {
			w.Fade = []float32{-5, -6, -3, -10}
		}
		f, err := NewFeatureMap(shape, w)
		if err != nil {
			panic(err)
		}
		m.Layers = append(m.Layers, f)
	}
	m.LogScales = map[string][][]float32{"h2o": {{0, negInf}, {-0.5, 0.25}}, Others: {{negInf, negInf}, {-0.5, negInf}}}
	m.HeadWeights = [][]float32{{1, 0}, {0.5, 2}}
	return m
}

func encodeMaps(t testing.TB, m *Maps) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.Encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func parseMaps(b []byte) (*Maps, error) { return ParseMaps(bytes.NewReader(b), int64(len(b))) }

func TestMapsSurviveTheFile(t *testing.T) {
	for _, dtype := range []DType{F32, BF16} {
		want := someMaps(dtype)
		path := filepath.Join(t.TempDir(), "maps.less")
		if err := want.Write(path); err != nil {
			t.Fatal(err)
		}
		got, err := ReadMaps(path)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v: read %+v, wrote %+v", dtype, got, want)
		}
		for policy, want := range map[string]struct{ on, validated int }{"h2o": {3, 8192}, "sinks": {1, 2048}, Others: {1, 2048}} {
			if g := got.GateOf(policy); g.On() != want.on || g.Validated != want.validated {
				t.Errorf("%v: the gate of %s is %+v, want %+v", dtype, policy, g, want)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".less-*")); left != nil {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestGateGain(t *testing.T) {
	r := GateReport{Measured: []GateMeasure{
		{Kind: "needles", Tokens: 2048, Plain: 9, State: 1},
		{Kind: "text", Tokens: 2048, Plain: 3, State: 2.5},
		{Kind: "text", Tokens: 2048, Plain: 2, State: 2.25},
		{Kind: "text", Tokens: 4096, Plain: 3, State: 1},
	}}
	if got := r.Gain(2048); got != 0.25 {
		t.Errorf("%v nats are won, want 0.25", got)
	}
	if got := (GateReport{}).Gain(2048); got != 0 {
		t.Errorf("states that are off win %v", got)
	}
}

// TestWriteMapsRounds checks that BF16 rounds to the nearest number, even of two.
func TestWriteMapsRounds(t *testing.T) {
	m := someMaps(BF16)
	copy(m.Layers[0].Wq1, []float32{1 + 1./256, 1 + 3./256, 1 + 1.01/256})
	got, err := parseMaps(encodeMaps(t, m))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float32{1, 1 + 2./128, 1 + 1./128} {
		if got.Layers[0].Wq1[i] != want {
			t.Errorf("value %d became %v, want %v", i, got.Layers[0].Wq1[i], want)
		}
	}
}

func TestMapsWithoutHeadWeights(t *testing.T) {
	m := someMaps(F32)
	m.HeadWeights = nil
	got, err := parseMaps(encodeMaps(t, m))
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestParseMapsRefuses(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		name   string
		change func(*Maps)
		want   string
	}{
		{"a NaN weight", func(m *Maps) { m.Layers[1].Wk2[3] = nan }, "layers.1.psi.w2"},
		{"an infinite weight", func(m *Maps) { m.Layers[0].S1[0] = negInf }, "layers.0.psi.s1"},
		{"a NaN gate", func(m *Maps) { m.LogScales["h2o"][0][0] = nan }, "gate.h2o"},
		{"an infinite gate", func(m *Maps) { m.LogScales[Others][0][0] = -negInf }, "gate.others"},
		{"an infinite head weight", func(m *Maps) { m.HeadWeights[0][0] = negInf }, "head_weights"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := someMaps(F32)
			c.change(m)
			if _, err := parseMaps(encodeMaps(t, m)); !errors.Is(err, ErrMaps) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want ErrMaps about %q", err, c.want)
			}
		})
	}
}

// TestParseMapsRefusesHeaders changes the header alone, and keeps the tensors.
func TestParseMapsRefusesHeaders(t *testing.T) {
	var tensors []namedTensor
	m := someMaps(F32)
	for layer, f := range m.Layers {
		for _, w := range f.tensors(layer, m.Header.Shape) {
			tensors = append(tensors, namedTensor{w.name, F32, w.shape, *w.values})
		}
	}
	for policy := range m.Header.Gates {
		tensors = append(tensors, namedTensor{gatePrefix + policy, F32, []int{2, 2}, make([]float32, 4)})
	}
	file := func(metadata map[string]string) []byte {
		var b bytes.Buffer
		if err := writeSafetensors(&b, metadata, tensors); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for _, c := range []struct {
		name   string
		change func(*Header)
		want   string
	}{
		{"no hash", func(h *Header) { h.Model = "" }, "SHA-256"},
		{"no hex", func(h *Header) { h.Model = strings.Repeat("x", 64) }, "SHA-256"},
		{"inputs", func(h *Header) { h.Inputs = "rope" }, "inputs"},
		{"no layer", func(h *Header) { h.Layers = 0 }, "layers"},
		{"too many layers", func(h *Header) { h.Layers = 3 }, "layers.2"},
		{"endless layers", func(h *Header) { h.Layers = math.MaxInt }, "layers"},
		{"heads", func(h *Header) { h.Shape.Heads = 3 }, "multiple"},
		{"negative heads", func(h *Header) { h.Shape.Heads, h.Shape.KVHeads = -4, -2 }, "multiple"},
		{"rank", func(h *Header) { h.Shape.Rank = 0 }, "rank"},
		{"sizes that overflow", func(h *Header) { h.Shape.HeadDim, h.Shape.Hidden = 1<<62, 1<<62 }, "shape"},
		{"another hidden size", func(h *Header) { h.Shape.Hidden = 4 }, "shape"},
		{"length", func(h *Header) { h.Gates = map[string]GateReport{Others: {}} }, "validated"},
		{"no gate", func(h *Header) { h.Gates = nil }, "no gate"},
		{"a gate that is not there", func(h *Header) {
			h.Gates = map[string]GateReport{Others: {Validated: 1}, "tova": {Validated: 1}}
		}, "gate.tova"},
		{"budget", func(h *Header) { h.Budgets = []int{-1} }, "budget"},
		{"epsilon", func(h *Header) { h.Epsilon = 1e-5 }, "epsilon"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := m.Header
			c.change(&h)
			text, err := json.Marshal(h)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parseMaps(file(map[string]string{mapsKey: string(text)})); !errors.Is(err, ErrMaps) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want ErrMaps about %q", err, c.want)
			}
		})
	}
	for name, metadata := range map[string]map[string]string{"none": nil, "another": {"format": "pt"}, "no JSON": {mapsKey: "{"}, "another type": {mapsKey: "[]"}} {
		if _, err := parseMaps(file(metadata)); !errors.Is(err, ErrMaps) {
			t.Errorf("metadata %s: got error %v, want ErrMaps", name, err)
		}
	}
	if _, err := parseMaps(nil); !errors.Is(err, ErrSafetensors) {
		t.Errorf("an empty file: got error %v, want ErrSafetensors", err)
	}
	if _, err := ReadMaps(filepath.Join(t.TempDir(), "none.less")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: got error %v, want ErrNotExist", err)
	}
}

func TestEncodeMapsRefuses(t *testing.T) {
	for name, change := range map[string]func(*Maps){
		"a missing layer":         func(m *Maps) { m.Layers = m.Layers[1:] },
		"a layer of another size": func(m *Maps) { f := *m.Layers[0]; f.Rank = 3; m.Layers[0] = &f },
		"a short gate":            func(m *Maps) { m.LogScales["h2o"] = m.LogScales["h2o"][1:] },
		"no gate":                 func(m *Maps) { delete(m.LogScales, "h2o") },
		"short head weights":      func(m *Maps) { m.HeadWeights[0] = nil },
		"quantised":               func(m *Maps) { m.Type = Q4_1 },
		"a bad header":            func(m *Maps) { m.Header.Inputs = "" },
	} {
		m := someMaps(F32)
		change(m)
		path := filepath.Join(t.TempDir(), "maps.less")
		if err := m.Write(path); err == nil {
			t.Errorf("%s: written", name)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); left != nil {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestMapsCheck(t *testing.T) {
	m := someMaps(F32)
	if err := m.Check(m.Header.Model, 2, 4, 2, 3); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"hash": m.Check(strings.Repeat("1", 64), 2, 4, 2, 3), "layers": m.Check(m.Header.Model, 3, 4, 2, 3),
		"heads": m.Check(m.Header.Model, 2, 8, 2, 3), "KV heads": m.Check(m.Header.Model, 2, 4, 4, 3), "head dim": m.Check(m.Header.Model, 2, 4, 2, 4),
	} {
		if !errors.Is(err, ErrOtherModel) {
			t.Errorf("another %s: got error %v, want ErrOtherModel", name, err)
		}
	}
}

// FuzzParseMaps feeds untrusted bytes to the loader; what it takes, it writes.
func FuzzParseMaps(f *testing.F) {
	for _, dtype := range []DType{F32, BF16} {
		f.Add(encodeMaps(f, someMaps(dtype)))
	}
	f.Add(encodeMaps(f, someMaps(F32))[:1000])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMaps(b)
		if err != nil {
			return
		}
		again, err := parseMaps(encodeMaps(t, m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("saving what was loaded gives another (error %v)", err)
		}
	})
}
