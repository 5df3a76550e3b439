package cuda

import (
	"fmt"
	"math"
	"testing"

	"lessrag/lesskernels/cuda/device"
)

// moments are the oracle of a state: all that it has absorbed.
type moments struct{ keys, values [][]float64 }

// state is the means of keys and of values, and the sums of products of deviations, values in rows.
func (m *moments) state(dim int) []float64 {
	n := float64(len(m.keys))
	x := make([]float64, MomentFloats(dim)-1)
	for t, key := range m.keys {
		for j := range dim {
			x[j] += key[j] / n
			x[dim+j] += m.values[t][j] / n
		}
	}
	for t, key := range m.keys {
		for j := range dim {
			for i := range dim {
				x[(2+j)*dim+i] += (m.values[t][j] - x[dim+j]) * (key[i] - x[i])
			}
		}
	}
	return x
}

// States of moments absorb tokens, some of which once stood elsewhere, and answer queries.
func TestMoments(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, h := range []Heads{{6, 2, 64}, {2, 1, 128}, {3, 1, 256}} {
			r.checkMoments(h)
		}
	})
}

func (r *rig) checkMoments(h Heads) {
	const stride, layer = 120, 1
	keys := r.normal(stride*h.Dim, 1)
	valueBits, values := brains(r.normal(stride*h.Dim, 1))
	for i := range keys { // means that are not 0
		keys[i] += float32(i%h.Dim%5) / 2
	}
	keyBits, keys := brains(keys)
	var bits []uint16
	for range stride * h.Dim { // of layer 0 none is read
		bits = append(bits, 0x7fc0)
	}
	bits = append(append(bits, keyBits...), valueBits...)
	var cos, sin []float32
	for i := range 2 * h.Dim / 2 {
		s, c := math.Sincos(float64(i))
		cos, sin = append(cos, float32(c)), append(sin, float32(s))
	}
	counts := [][]int{{1, 17, 40, 16}, {15, 1, 33, 0}} // of each launch and sequence
	oracles := make([]moments, len(counts[0]))
	var table []float32
	var tables []int64
	for i := range oracles {
		tables = append(tables, int64(len(table)))
		entries := 2 * h.KVHeads * 2
		for e := range entries {
			further := int32(NoState)
			if e == 2*(h.KVHeads+i%h.KVHeads) {
				further = Untouched(entries)
			}
			table = append(table, math.Float32frombits(uint32(further)))
		}
		table = append(table, nothing(MomentFloats(h.Dim))...)
	}
	p, memory := put(r, table), put(r, bits)
	for _, round := range counts {
		var jobs []Job
		var leaving []Leaving
		for i, n := range round {
			if n == 0 {
				continue
			}
			jobs = append(jobs, Job{Table: tables[i], KVHead: int64(i % h.KVHeads), First: int64(len(leaving)), Count: int64(n)})
			for j := range n {
				row, other := r.random.IntN(stride), r.random.IntN(stride)
				l := Leaving{Key: int64(row), Value: int64(stride + other), Layer: stride, Turned: int64(j%3 - 1)}
				key, value := make([]float64, h.Dim), make([]float64, h.Dim)
				for d := range h.Dim {
					key[d], value[d] = float64(keys[row*h.Dim+d]), float64(values[other*h.Dim+d])
				}
				for d := 0; l.Turned >= 0 && d < h.Dim; d += 2 {
					c, s := float64(cos[int(l.Turned)*h.Dim/2+d/2]), float64(sin[int(l.Turned)*h.Dim/2+d/2])
					key[d], key[d+1] = key[d]*c-key[d+1]*s, key[d]*s+key[d+1]*c
				}
				leaving = append(leaving, l)
				oracles[i].keys, oracles[i].values = append(oracles[i].keys, key), append(oracles[i].values, value)
			}
		}
		r.must(r.AbsorbMoments(r.s, h, memory, put(r, jobs), put(r, leaving), put(r, cos), put(r, sin), p, len(jobs), layer))
	}
	got := get[float32](r, p, len(table))
	for i := range oracles {
		what, n := fmt.Sprintf("moments of %d tokens of %+v", len(oracles[i].keys), h), MomentFloats(h.Dim)-1
		at := int(tables[i]) + 4*h.KVHeads
		near(r.t, what, got[at:at+n], oracles[i].state(h.Dim), stateTolerance)
		if count := int(math.Float32bits(got[at+n])); count != len(oracles[i].keys) {
			r.t.Errorf("%s: %d are counted", what, count)
		}
		if further := int32(math.Float32bits(got[at-2*h.KVHeads+2*(i%h.KVHeads)])); further != int32(4*h.KVHeads) {
			r.t.Errorf("%s lie at %d, want %d", what, further, 4*h.KVHeads)
		}
	}
	r.checkRecall(h, layer, p, tables, oracles)
}

// checkRecall: every row asks a sequence, of which one KV head has a state, but for the last, which asks none.
func (r *rig) checkRecall(h Heads, layer int, states device.Pointer, tables []int64, oracles []moments) {
	rows := len(tables) + 1
	bits, q := brains(r.normal(rows*h.Heads*h.Dim, 1))
	var list []int32
	for row := range rows {
		list = append(list, int32(rows-1-row))
	}
	a := Attention{Heads: h, Scale: float32(1 / math.Sqrt(float64(h.Dim))), Layer: layer, Rows: rows, Q: put(r, bits),
		Parts: put(r, nothing(rows*h.Heads*h.Dim)), LSE: put(r, nothing(rows*h.Heads))}
	r.must(r.RecallMoments(r.s, &a, put(r, list), rows, states, put(r, append(append([]int64(nil), tables...), -1))))
	lse := get[float32](r, a.LSE, rows*h.Heads)
	var want, wantLSE []float64
	var gotLSE []float32
	for i := range lse {
		row, kv, out := i/h.Heads, i%h.Heads/h.Group(), make([]float64, h.Dim)
		if row < len(tables) && row%h.KVHeads == kv {
			x, n, dot := oracles[row].state(h.Dim), float64(len(oracles[row].keys)), 0.0
			for d := range h.Dim {
				dot += float64(q[i*h.Dim+d]) * x[d]
			}
			for j := range out {
				out[j] = x[h.Dim+j]
				for d := range h.Dim {
					out[j] += x[(2+j)*h.Dim+d] * float64(q[i*h.Dim+d]) * float64(a.Scale) / n
				}
			}
			gotLSE, wantLSE = append(gotLSE, lse[i]), append(wantLSE, dot*float64(a.Scale)+math.Log(n))
		} else if !math.IsInf(float64(lse[i]), -1) {
			r.t.Errorf("%+v: row %d, KV head %d has no state, and a log-sum-exp of %v", h, row, kv, lse[i])
		}
		want = append(want, out...)
	}
	near(r.t, fmt.Sprintf("what moments of %+v answer", h), get[float32](r, a.Parts, len(want)), want, stateTolerance)
	near(r.t, fmt.Sprintf("log-sum-exps of moments of %+v", h), gotLSE, wantLSE, lseTolerance)
}
