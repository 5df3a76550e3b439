package lesskernels

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

var negInf = float32(math.Inf(-1))

func randomRow(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// TestMergeEqualsWhole splits attention at every slot: the merged halves, one
// of them empty at the ends, equal attention over all slots.
func TestMergeEqualsWhole(t *testing.T) {
	const headDim, slots = 7, 9
	rng := rand.New(rand.NewPCG(1, 2))
	q, k, v := randomRow(rng, headDim), randomRow(rng, slots*headDim), randomRow(rng, slots*headDim)
	for i := range k {
		k[i] *= 20 // far apart, so that a wrong shift would overflow
	}
	whole, _ := Attend(q, k, v, 1)
	for cut := range slots + 1 {
		for _, swapped := range []bool{false, true} {
			a, _ := Attend(q, k[:cut*headDim], v[:cut*headDim], 1)
			b, _ := Attend(q, k[cut*headDim:], v[cut*headDim:], 1)
			if swapped {
				a, b = b, a
			}
			a.Merge(b)
			if !(math.Abs(float64(a.LSE-whole.LSE)) <= 1e-5*math.Abs(float64(whole.LSE))) {
				t.Errorf("cut %d: LSE %v, want %v", cut, a.LSE, whole.LSE)
			}
			for i := range a.Out {
				if !(math.Abs(float64(a.Out[i]-whole.Out[i])) <= 1e-4) {
					t.Errorf("cut %d: Out[%d] = %v, want %v", cut, i, a.Out[i], whole.Out[i])
				}
			}
		}
	}
}

// TestMergeEmpty checks that empty segments leave no NaN.
func TestMergeEmpty(t *testing.T) {
	p := Partial{Out: []float32{0}, LSE: negInf}
	p.Merge(Partial{Out: []float32{0}, LSE: negInf})
	if p.LSE != negInf || p.Out[0] != 0 {
		t.Errorf("two empty segments give %+v", p)
	}
	p.Merge(Partial{Out: []float32{3}, LSE: 2})
	if p.LSE != 2 || p.Out[0] != 3 {
		t.Errorf("an empty and a full segment give %+v", p)
	}
	p.Merge(Partial{Out: []float32{float32(math.NaN())}, LSE: negInf})
	if p.LSE != 2 || p.Out[0] != 3 {
		t.Errorf("the output of an empty segment was read: %+v", p)
	}
}

// TestLowRankSums checks that absorbing in any order and in two states that
// are added gives the same state, that it survives saving, and that its query
// is the matrix form over the absorbed tokens.
func TestLowRankSums(t *testing.T) {
	const kvHeads, rank, headDim, tokens = 2, 3, 5, 40
	rng := rand.New(rand.NewPCG(3, 4))
	var psi, v [tokens][]float32
	for i := range tokens {
		psi[i], v[i] = randomRow(rng, rank), randomRow(rng, headDim)
		for r, x := range psi[i] {
			psi[i][r] = abs32(x)
		}
	}
	one, parts := NewLowRank(kvHeads, rank, headDim), [2]*LowRank{NewLowRank(kvHeads, rank, headDim), NewLowRank(kvHeads, rank, headDim)}
	for i := range tokens {
		one.Absorb(1, psi[i], v[i])
	}
	for n, i := range rng.Perm(tokens) {
		parts[n%2].Absorb(1, psi[i], v[i])
	}
	if err := parts[0].Add(parts[1]); err != nil {
		t.Fatal(err)
	}
	saved, err := parts[0].MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var loaded LowRank
	if err := loaded.UnmarshalBinary(saved); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(loaded.H, parts[0].H) || !slices.Equal(loaded.Z, parts[0].Z) || !slices.Equal(loaded.Absorbed, []uint32{0, tokens}) {
		t.Errorf("the loaded state differs: %+v", loaded)
	}
	for i, x := range loaded.H {
		if !(math.Abs(float64(x-one.H[i])) <= 1e-5) {
			t.Errorf("H[%d] = %v in parts, %v at once", i, x, one.H[i])
		}
	}

	phi := []float32{0.5, 1, 2}
	p := Partial{Out: make([]float32, headDim)}
	loaded.Query(&p, 1, phi)
	weight, total := make([]float64, tokens), 0.0
	for i := range tokens {
		for r, x := range psi[i] {
			weight[i] += float64(phi[r]) * float64(x)
		}
		total += weight[i]
	}
	for c := range headDim {
		want := 0.0
		for i := range tokens {
			want += weight[i] / total * float64(v[i][c])
		}
		if !(math.Abs(float64(p.Out[c])-want) <= 1e-5) {
			t.Errorf("Out[%d] = %v, want %v", c, p.Out[c], want)
		}
	}
	if !(math.Abs(float64(p.LSE)-math.Log(total)) <= 1e-6) {
		t.Errorf("LSE = %v, want %v", p.LSE, math.Log(total))
	}
	loaded.Query(&p, 0, phi)
	if p.LSE != negInf || p.Out[0] != 0 {
		t.Errorf("a head that absorbed nothing answers %+v", p)
	}
}

// TestLowRankEpsilon checks that a vanishing φ·z is floored, in the logarithm
// and as the divisor.
func TestLowRankEpsilon(t *testing.T) {
	s := NewLowRank(1, 1, 1)
	s.Absorb(0, []float32{1e-9}, []float32{2})
	p := Partial{Out: make([]float32, 1)}
	s.Query(&p, 0, []float32{1})
	if !(math.Abs(float64(p.Out[0])-2e-3) <= 1e-9) || !(math.Abs(float64(p.LSE)-math.Log(1e-6)) <= 1e-5) {
		t.Errorf("got %+v, want out 0.002 and lse %v", p, math.Log(1e-6))
	}
}

// TestLowRankRank0 checks that a state of rank 0 adds nothing.
func TestLowRankRank0(t *testing.T) {
	s := NewLowRank(1, 0, 2)
	s.Absorb(0, nil, []float32{1, 2})
	p := Partial{Out: make([]float32, 2)}
	s.Query(&p, 0, nil)
	if p.LSE != negInf {
		t.Errorf("LSE = %v, want −Inf", p.LSE)
	}
}

func TestLowRankRefuses(t *testing.T) {
	s := NewLowRank(2, 3, 4)
	if err := s.Add(NewLowRank(2, 4, 3)); err == nil {
		t.Error("a state of another shape was added")
	}
	good, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	huge := slices.Clone(good)
	for i := len(lowRankMagic); i < len(lowRankMagic)+12; i++ {
		huge[i] = 0xff
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "short": good[:len(good)-1], "long": append(slices.Clone(good), 0),
		"other magic": append([]byte("x"), good[1:]...), "huge sizes": huge,
	} {
		if err := new(LowRank).UnmarshalBinary(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzLowRank feeds untrusted bytes to the loader.
func FuzzLowRank(f *testing.F) {
	s := NewLowRank(1, 2, 3)
	good, err := s.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(lowRankMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s LowRank
		if s.UnmarshalBinary(b) != nil {
			return
		}
		again, err := s.MarshalBinary()
		if err != nil || !slices.Equal(b, again) {
			t.Errorf("saving what was loaded gives other bytes (error %v)", err)
		}
	})
}
