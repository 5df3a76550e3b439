package model

import (
	"slices"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// ThinK: which channels the packed keys of a KV head keep is decided on the processor, once, when the first of them are packed or a
// prompt has been staged. The card knows the mean squares of the last queries and adds up the squares of keys; where its groups
// begin it is told what was decided.

// prunes tells whether packed keys lose channels.
func (s *cudaSequence) prunes() bool { return s.plan.Spec.Think != 0 }

// pruned is how the groups of KV head i lie where packed keys lose channels.
func (s *cudaSequence) pruned(i int) cuda.Pruned {
	packing := s.plan.Packing()
	p := cuda.Pruned{Bits: packing.Bits, Channels: packing.Keys}
	if s.plan.Spec.State == cache.Less {
		p.Rank = s.plan.Shape.Ranks[i]
	}
	return p
}

// psiOf is where ψ of a packed token is, of KV head i of all layers, counted in bf16.
func (s *cudaSequence) psiOf(i, group, token int) int64 {
	p := s.pruned(i)
	return (s.groupAt[i]+int64(group+1)*s.groupBytes(i))/2 - int64((cache.GroupTokens-token)*p.Rank)
}

// forgetQueries writes the mean squares anew: none were seen.
func (s *cudaSequence) forgetQueries() error {
	if !s.prunes() {
		return nil
	}
	s.channels = make([][]uint16, len(s.plan.Slots))
	return s.backend.stream.Upload(device.Pointer(4*s.squares), cuda.Bytes(make([]float32, len(s.plan.Slots)*s.plan.Shape.HeadDim)))
}

// copyQueries gives a sequence what another one knows of queries, and the channels that it has chosen by them.
func (s *cudaSequence) copyQueries(from *cudaSequence) {
	if !s.prunes() || !from.prunes() { // a desk knows nothing of them
		return
	}
	c := s.backend
	c.check(c.stream.Copy(device.Pointer(4*s.squares), device.Pointer(4*from.squares), int64(4*len(s.plan.Slots)*s.plan.Shape.HeadDim)))
	for i, kept := range from.channels {
		s.keepChannels(i, kept)
	}
}

// keepChannels tells the card which channels the keys of KV head i keep.
func (s *cudaSequence) keepChannels(i int, kept []uint16) {
	s.channels[i] = kept
	if c := s.backend; kept != nil && s.groups != 0 && c.failed == nil {
		c.check(c.stream.Upload(device.Pointer(s.groupAt[i]-int64(2*c.heads.Dim)), cuda.Bytes(kept)))
	}
}

// noteQueries notes that a block's last queries are taken to what its sequence knows.
func (c *CUDA) noteQueries(w *wave, block *cudaBlock) {
	s := block.sequence
	if s.prunes() && slices.Contains(s.books.pruned, false) {
		n, share := cache.LastQueries(s.position, block.n)
		w.asks.add(cuda.Ask{First: int64(block.first + block.n - n), Rows: int64(n), Squares: s.squares, Share: share})
	}
}

// ask takes the queries of a wave's blocks to what sequences know.
func (c *CUDA) ask(layer int, w *wave) {
	if n := len(w.asks.values); n > 0 {
		c.check(c.kernels.Ask(c.stream, c.heads, c.q, w.asks.at, n, layer))
	}
}

// choosing are KV heads whose keys' channels are chosen.
type choosing struct {
	of   []chooser
	jobs table[cuda.SquaresJob]
	keys table[int64] // rows of memory
}

// chooser is KV head i of a sequence.
type chooser struct {
	*cudaSequence
	i int
}

// add notes that the channels of KV head i are chosen by the keys of some tokens.
func (t *choosing) add(s *cudaSequence, i int, slot, row cuda.Place, tokens []where) {
	if len(tokens) == 0 || s.groups == 0 {
		return
	}
	t.of = append(t.of, chooser{s, i})
	t.jobs.add(cuda.SquaresJob{First: int64(len(t.keys.values)), Count: int64(len(tokens))})
	for _, w := range tokens {
		from := slot
		n, own := w.row()
		if own {
			from = row
		}
		t.keys.add(from.After(n).Key)
	}
}

func (t *choosing) stage(u *upload) {
	u.put(cuda.Bytes(t.jobs.values), &t.jobs.at)
	u.put(cuda.Bytes(t.keys.values), &t.keys.at)
}

// choose lets the processor choose channels: it waits for what the card has added up.
func (c *CUDA) choose(t *choosing) {
	if len(t.of) == 0 {
		return
	}
	dim := c.heads.Dim
	c.check(c.kernels.Squares(c.stream, c.heads, 0, t.jobs.at, t.keys.at, c.keySquares, len(t.of)))
	squares, queries := make([]float64, len(t.of)*dim), make([]float32, dim)
	c.download(cuda.Bytes(squares), c.keySquares)
	for j, s := range t.of {
		c.download(cuda.Bytes(queries), device.Pointer(4*(s.squares+int64(s.i*dim))))
		kept := make([]uint16, s.pruned(s.i).Channels)
		cache.KeptChannels(kept, queries, squares[j*dim:(j+1)*dim], int(t.jobs.values[j].Count))
		s.keepChannels(s.i, kept)
	}
}
