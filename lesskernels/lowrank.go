package lesskernels

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Epsilon is the floor of φ(q)·z, in the logarithm and as the divisor alike.
const Epsilon = 1e-6

// LowRank is the recurrent state of LESS (arXiv 2402.09398, eq. 4): sums over
// all tokens that a cache has evicted, of one sequence and layer. States of
// separately absorbed tokens can be added.
type LowRank struct {
	KVHeads, Rank, HeadDim int

	H        []float32 // [kvHeads, R, headDim] Σ ψ(k)ᵀ v
	Z        []float32 // [kvHeads, R] Σ ψ(k)
	Absorbed []uint32  // [kvHeads] tokens in the sums
}

// NewLowRank returns an empty state. It panics on a negative size.
func NewLowRank(kvHeads, rank, headDim int) *LowRank {
	return &LowRank{
		KVHeads: kvHeads, Rank: rank, HeadDim: headDim,
		H:        make([]float32, kvHeads*rank*headDim),
		Z:        make([]float32, kvHeads*rank),
		Absorbed: make([]uint32, kvHeads),
	}
}

// Bytes is the memory that the state's numbers take.
func (s *LowRank) Bytes() int64 {
	return 4 * int64(len(s.H)+len(s.Z)+len(s.Absorbed))
}

// head returns one KV head's H [R, headDim] and z [R].
func (s *LowRank) head(kvHead int) (h, z []float32) {
	return s.H[kvHead*s.Rank*s.HeadDim:][:s.Rank*s.HeadDim], s.Z[kvHead*s.Rank:][:s.Rank]
}

// Absorb adds one evicted token, psi [R] = ψ(k) and v [headDim], to a KV head.
func (s *LowRank) Absorb(kvHead int, psi, v []float32) {
	h, z := s.head(kvHead)
	psi, v = psi[:s.Rank], v[:s.HeadDim]
	for r, w := range psi {
		z[r] += w
		row := h[r*s.HeadDim:][:s.HeadDim]
		for c, x := range v {
			row[c] += w * x
		}
	}
	s.Absorbed[kvHead]++
}

// Query writes to p the attention over the absorbed tokens of a KV head of a
// query whose phi [R] = φ(q). A head that has absorbed nothing, or a state of
// rank 0, is an empty segment.
func (s *LowRank) Query(p *Partial, kvHead int, phi []float32) {
	p.Out = p.Out[:s.HeadDim]
	clear(p.Out)
	p.LSE = float32(math.Inf(-1))
	if s.Rank == 0 || s.Absorbed[kvHead] == 0 {
		return
	}
	h, z := s.head(kvHead)
	den := float64(0)
	for r, w := range phi[:s.Rank] {
		den += float64(w) * float64(z[r])
	}
	den = math.Max(den, Epsilon)
	for c := range p.Out {
		sum := float64(0)
		for r, w := range phi[:s.Rank] {
			sum += float64(w) * float64(h[r*s.HeadDim+c])
		}
		p.Out[c] = float32(sum / den)
	}
	p.LSE = float32(math.Log(den))
}

// Add adds another state, of other tokens, to this one. It refuses another shape.
func (s *LowRank) Add(other *LowRank) error {
	if s.KVHeads != other.KVHeads || s.Rank != other.Rank || s.HeadDim != other.HeadDim {
		return fmt.Errorf("lesskernels: add a low-rank state [%d, %d, %d] to one of [%d, %d, %d]",
			other.KVHeads, other.Rank, other.HeadDim, s.KVHeads, s.Rank, s.HeadDim)
	}
	for i, x := range other.H {
		s.H[i] += x
	}
	for i, x := range other.Z {
		s.Z[i] += x
	}
	for i, n := range other.Absorbed {
		s.Absorbed[i] += n
	}
	return nil
}

// lowRankMagic begins a saved state; its last byte is the format's version.
const lowRankMagic = "LESSHZ\x00\x01"

// MarshalBinary saves the state: magic, three sizes, then Absorbed, Z and H,
// all little-endian words of 32 bits.
func (s *LowRank) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, int64(len(lowRankMagic)+12)+s.Bytes())
	b = append(b, lowRankMagic...)
	for _, n := range []int{s.KVHeads, s.Rank, s.HeadDim} {
		if n < 0 || n > math.MaxInt32 {
			return nil, fmt.Errorf("lesskernels: save a low-rank state of size %d", n)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	for _, n := range s.Absorbed {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	for _, list := range [][]float32{s.Z, s.H} {
		for _, x := range list {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	return b, nil
}

// UnmarshalBinary loads a saved state. It refuses what is no such state and a
// length that disagrees with the sizes.
func (s *LowRank) UnmarshalBinary(b []byte) error {
	head := len(lowRankMagic) + 12
	if len(b) < head || string(b[:len(lowRankMagic)]) != lowRankMagic {
		return fmt.Errorf("lesskernels: load a low-rank state: the data do not begin as one")
	}
	size := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(b[len(lowRankMagic)+4*i:])) }
	kvHeads, rank, headDim := size(0), size(1), size(2)
	const most = 1 << 20 // far above any model, and its products fit 64 bits
	if kvHeads > most || rank > most || headDim > most {
		return fmt.Errorf("lesskernels: load a low-rank state: sizes [%d, %d, %d] are too large", kvHeads, rank, headDim)
	}
	words := kvHeads * (1 + rank + rank*headDim)
	if have := uint64(len(b) - head); have%4 != 0 || have/4 != words {
		return fmt.Errorf("lesskernels: load a low-rank state [%d, %d, %d]: %d bytes expected, got %d",
			kvHeads, rank, headDim, uint64(head)+4*words, len(b))
	}
	*s = *NewLowRank(int(kvHeads), int(rank), int(headDim))
	b = b[head:]
	next := func() uint32 {
		x := binary.LittleEndian.Uint32(b)
		b = b[4:]
		return x
	}
	for i := range s.Absorbed {
		s.Absorbed[i] = next()
	}
	for _, list := range [][]float32{s.Z, s.H} {
		for i := range list {
			list[i] = math.Float32frombits(next())
		}
	}
	return nil
}
