package cpu

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// packedOf is n groups of random keys, each channel of a size and mean of its own, and
// values; and the numbers that were packed, [n·32, keys] and [n·32, values].
func packedOf(rng *rand.Rand, p Packing, n int) (groups []uint16, keys, values []float32) {
	keys, values = randomFloats(rng, n*PackTokens*p.Keys), randomFloats(rng, n*PackTokens*p.Values)
	for c := range p.Keys {
		size, mean := float32(math.Exp(rng.NormFloat64())), float32(rng.NormFloat64())
		for t := range n * PackTokens {
			at := &keys[t*p.Keys+c]
			*at = fromBF16(toBF16(*at*size + mean))
		}
	}
	for i, x := range values {
		values[i] = fromBF16(toBF16(x))
	}
	groups = make([]uint16, n*p.Words())
	for i := range n {
		p.Pack(groups[i*p.Words():][:p.Words()], slices.Clone(keys[i*PackTokens*p.Keys:][:PackTokens*p.Keys]), slices.Clone(values[i*PackTokens*p.Values:][:PackTokens*p.Values]))
	}
	return groups, keys, values
}

// kept are some of so many channels, rising; nil where all are kept.
func kept(rng *rand.Rand, keys, all int) []uint16 {
	if keys == all {
		return nil
	}
	var channels []uint16
	for _, c := range rng.Perm(all)[:keys] {
		channels = append(channels, uint16(c))
	}
	slices.Sort(channels)
	return channels
}

var packings = []struct{ keys, values int }{{64, 64}, {39, 64}, {128, 128}, {77, 128}, {3, 20}, {16, 16}, {40, 40}, {1, 1}, {256, 256}}

// rotated is the Walsh–Hadamard transform of x in blocks of powers of two, from its
// definition; itself where nothing is rotated.
func rotated(p Packing, x []float32) []float32 {
	if p.Bits == 16 || len(x) == 0 {
		return x
	}
	n := 1
	for 2*n <= len(x) {
		n *= 2
	}
	var out []float32
	for i := range n {
		sum := 0.0
		for j := range n {
			sum += float64(x[j]) * (1 - 2*float64(bits.OnesCount(uint(i&j))%2))
		}
		out = append(out, float32(sum/math.Sqrt(float64(n))))
	}
	return append(out, rotated(p, x[n:])...)
}

// No number is further from what is stored for it than half a step of its row, and the
// steps are those of the row's own range, but for the rounding of binary16.
func TestPackWithinHalfAStep(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, bits := range []int{2, 4, 16} {
		for _, shape := range packings {
			p := Packing{Bits: bits, Keys: shape.keys, Values: shape.values}
			groups, keys, values := packedOf(rng, p, 3)
			slots := PackedSlots{Packing: p, Groups: groups, Channels: kept(rng, p.Keys, p.Values)}
			gotKeys, gotValues := make([]float32, PackTokens*p.Values), make([]float32, PackTokens*p.Values)
			for i := range 3 {
				slots.unpackGroup(gotKeys, gotValues, slots.group(i))
				var wantKeys, wantValues [][]float32
				for j := range PackTokens {
					at := i*PackTokens + j
					wantKeys = append(wantKeys, rotated(p, keys[at*p.Keys:(at+1)*p.Keys]))
					wantValues = append(wantValues, rotated(p, values[at*p.Values:(at+1)*p.Values]))
				}
				for c := range p.Keys {
					var want, got []float32
					for j := range PackTokens {
						want, got = append(want, wantKeys[j][c]), append(got, gotKeys[j*p.Values+c])
					}
					checkRow(t, fmt.Sprintf("%+v: channel %d of keys", p, c), bits, got, want)
				}
				for j := range PackTokens {
					for c := 0; c < p.Values; c += 32 {
						to := min(c+32, p.Values)
						checkRow(t, fmt.Sprintf("%+v: values of token %d", p, j), bits, gotValues[j*p.Values+c:j*p.Values+to], wantValues[j][c:to])
					}
				}
			}
		}
	}
}

// What a group stands for is what was packed, up to the codes' steps: rotated back, and
// each channel in its place.
func TestUnpack(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, bits := range []int{4, 16} {
		for _, shape := range packings {
			p := Packing{Bits: bits, Keys: shape.keys, Values: shape.values}
			groups, keys, values := packedOf(rng, p, 1)
			slots := PackedSlots{Packing: p, Groups: groups, Channels: kept(rng, p.Keys, p.Values)}
			gotKeys, gotValues := make([]float32, PackTokens*p.Values), make([]float32, PackTokens*p.Values)
			slots.Unpack(gotKeys, gotValues, 0)
			whole := make([]float32, len(gotKeys))
			for i, x := range keys {
				c := i % p.Keys
				if slots.Channels != nil {
					c = int(slots.Channels[c])
				}
				whole[i/p.Keys*p.Values+c] = x
			}
			for name, pair := range map[string][2][]float32{"keys": {gotKeys, whole}, "values": {gotValues, values}} {
				var lost, all float64
				for i, x := range pair[1] {
					lost += float64((pair[0][i] - x) * (pair[0][i] - x))
					all += float64(x * x)
					if x == 0 && pair[0][i] != 0 && name == "keys" {
						t.Fatalf("%+v: a pruned channel is %v", p, pair[0][i])
					}
				}
				if most := 0.01; bits == 16 && lost != 0 || !(lost <= most*all) {
					t.Errorf("%+v: %s lose %v of %v", p, name, lost, all)
				}
			}
		}
	}
}

func checkRow(t *testing.T, name string, bits int, got, want []float32) {
	t.Helper()
	step := 0.0
	if bits < 16 {
		low, high := slices.Min(want), slices.Max(want)
		step = float64(high-low) / float64(int(1)<<bits-1) * (1 + 0x1p-9)
	}
	for i, x := range want {
		if diff := math.Abs(float64(got[i] - x)); !(diff <= step/2) {
			t.Fatalf("%s: %v is stored as %v, and half a step is %v", name, x, got[i], step/2)
		}
	}
}

// A row whose numbers are all the same comes back as it was, whatever its sign.
func TestPackConstantRows(t *testing.T) {
	for _, bits := range []int{2, 4, 16} {
		p := Packing{Bits: bits, Keys: 33, Values: 33}
		for _, x := range []float32{0, 1.5, -3.25, 1000, -0x1p-10} {
			group, got := make([]uint16, p.Words()), make([]float32, PackTokens)
			p.packRow(group, p.keyRows(), 30, slices.Repeat([]float32{x}, PackTokens))
			p.unpackRow(got, group, p.keyRows(), 30)
			if !slices.Equal(got, slices.Repeat([]float32{x}, PackTokens)) {
				t.Errorf("%d bits: %v comes back as %v", bits, x, got[0])
			}
		}
	}
}

// Numbers that binary16 does not hold exactly: the range is widened, never cut.
func TestPackOutsideBinary16(t *testing.T) {
	p := Packing{Bits: 4, Keys: 4, Values: 4}
	row, got := make([]float32, PackTokens), make([]float32, PackTokens)
	for i := range row {
		row[i] = -1.00001 + float32(i)*1e-9
	}
	row[7] = 1e-9
	group := make([]uint16, p.Words())
	p.packRow(group, p.keyRows(), 2, row)
	p.unpackRow(got, group, p.keyRows(), 2)
	for i, x := range row {
		if diff := math.Abs(float64(got[i] - x)); !(diff <= 1.0015/30) {
			t.Errorf("%v is stored as %v", x, got[i])
		}
	}
}

// Attention and column statistics over packed slots are those in float64 over the keys
// and values that they stand for, pruned channels being 0: single queries, which meet the
// codes, and blocks.
func TestAttendPacked(t *testing.T) {
	for _, isa := range isas() {
		for _, bits := range []int{2, 4, 16} {
			for _, shape := range packings {
				t.Run(fmt.Sprintf("%v/%dbit/%d of %d", isa, bits, shape.keys, shape.values), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(uint64(bits), uint64(shape.keys)))
					var s Scratch
					for _, group := range []int{1, 2, 3, 4, 9} {
						for _, queries := range []int{1, 9} {
							for _, n := range []int{0, 1, 10} {
								testAttendPacked(t, rng, isa, Packing{Bits: bits, Keys: shape.keys, Values: shape.values}, group, queries, n, &s)
							}
						}
					}
				})
			}
		}
	}
}

func testAttendPacked(t *testing.T, rng *rand.Rand, isa ISA, p Packing, group, queries, n int, s *Scratch) {
	t.Helper()
	groups, _, _ := packedOf(rng, p, n)
	slots := PackedSlots{Packing: p, Groups: groups, Channels: kept(rng, p.Keys, p.Values)}
	d, heads := p.Values, queries*group
	headDim := d + 3*(heads%2) // wider rows, as of keys in two parts
	keys, values := make([]float32, n*PackTokens*d), make([]float32, n*PackTokens*d)
	for i := range n {
		slots.Unpack(keys[i*PackTokens*d:], values[i*PackTokens*d:], i)
	}
	q := randomFloats(rng, heads*headDim)
	scale := float32(1 / math.Sqrt(float64(d)))
	out, lse := make([]float32, len(q)), make([]float32, heads)
	for i := range out {
		out[i] = nan
	}
	AttendPacked(isa, out, lse, q, slots, group, headDim, scale, s)
	columns, want := make([]float32, 2*group*n*PackTokens), make([]float64, 2*group*n*PackTokens)
	half := len(want) / 2
	for i := range heads {
		weights, exact, exactLSE := attendFloat64(q[i*headDim:][:d], keys, values, float64(scale))
		if got := float64(lse[i]); got != exactLSE && !(math.Abs(got-exactLSE) <= 5e-6*(1+math.Abs(exactLSE))) {
			t.Fatalf("%d groups: lse[%d] = %v, want %v", n, i, got, exactLSE)
		}
		for c := range headDim {
			w := 0.0
			if c < d {
				w = exact[c]
			}
			if diff := math.Abs(float64(out[i*headDim+c]) - w); !(diff <= 2e-6*float64(5+d/16)) {
				t.Fatalf("%d groups, group %d, queries %d: out[%d, %d] = %v, want %v", n, group, queries, i, c, out[i*headDim+c], w)
			}
		}
		for slot, p := range weights {
			at := i%group*n*PackTokens + slot
			want[at] += p
			want[half+at] = max(want[half+at], p)
		}
	}
	ColumnsPacked(isa, columns[:half], q, lse, slots, group, headDim, scale, Sum, s)
	ColumnsPacked(isa, columns[half:], q, lse, slots, group, headDim, scale, Max, s)
	for i, w := range want {
		if diff := math.Abs(float64(columns[i]) - w); !(diff <= 2e-5*(w+0.1)) {
			t.Fatalf("%d groups, group %d, queries %d: column %d is %v, want %v", n, group, queries, i, columns[i], w)
		}
	}
}

// attendFloat64 is the softmax weights, the attention and the log-sum-exp of one query.
func attendFloat64(q, k, v []float32, scale float64) (weights, out []float64, lse float64) {
	weights, out = make([]float64, len(k)/len(q)), make([]float64, len(q))
	peak := math.Inf(-1)
	for t := range weights {
		for c, x := range q {
			weights[t] += float64(x) * float64(k[t*len(q)+c]) * scale
		}
		peak = max(peak, weights[t])
	}
	sum := 0.0
	for t := range weights {
		weights[t] = math.Exp(weights[t] - peak)
		sum += weights[t]
	}
	for t := range weights {
		weights[t] /= sum
		for c := range out {
			out[c] += weights[t] * float64(v[t*len(q)+c])
		}
	}
	return weights, out, peak + math.Log(sum)
}

// BenchmarkAttendPacked is one KV head of a small model at depth 8,000, a step: beside
// bf16, which reads 256 bytes a token. Heads follow each other beyond the caches.
func BenchmarkAttendPacked(b *testing.B) {
	const group, d, slots, heads = 3, 64, 8000, 60
	rng := rand.New(rand.NewPCG(1, 2))
	q, out, lse := randomFloats(rng, group*d), make([]float32, group*d), make([]float32, group)
	var s Scratch
	for _, p := range []Packing{{Bits: 2, Keys: d, Values: d}, {Bits: 4, Keys: d, Values: d}, {Bits: 4, Keys: 39, Values: d}, {Bits: 16, Keys: 39, Values: d}} {
		groups, _, _ := packedOf(rng, p, slots/PackTokens)
		all := make([]PackedSlots, heads)
		for i := range all {
			all[i] = PackedSlots{Packing: p, Groups: slices.Clone(groups), Channels: kept(rng, p.Keys, d)}
		}
		b.Run(fmt.Sprintf("bits=%d/keys=%d", p.Bits, p.Keys), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				AttendPacked(Best(), out, lse, q, all[i%heads], group, d, 0.125, &s)
			}
		})
	}
	k := make([][]uint16, heads)
	for i := range k {
		k[i] = make([]uint16, slots*d)
		BF16(k[i], randomFloats(rng, slots*d))
	}
	b.Run("bf16", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			Attend(Best(), out, lse, q, k[i%heads], k[(i+1)%heads], group, d, []int32{slots}, 0.125, &s)
		}
	})
}
