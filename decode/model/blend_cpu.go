package model

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"lessrag/decode/cache"
	"lessrag/decode/passages"
)

// cpuBlend is what the CPU does of a Blend.
type cpuBlend struct {
	*Blend
	c *CPU
	s *cache.Sequence // the desk
	b batch
	x []float32 // [tokens, width] residual stream of the rows
	q []float32 // [tokens, heads, headDim]
}

// errDesk is of a Blend on a desk that another backend made.
var errDesk = errors.New("model: a blend on a desk of another backend")

// Blend goes on with a prompt for about as long as a pass of rows tokens takes. An
// error means that it was refused before anything was computed.
func (c *CPU) Blend(b *Blend, rows int) (done bool, err error) {
	if b.device == nil {
		s, ok := b.Desk.(*cache.Sequence)
		if !ok {
			return false, errDesk
		}
		if err := b.begin(c.config, c.stored, s, &cpuBlend{Blend: b, c: c, s: s}); err != nil {
			return false, err
		}
	}
	c.Clock.Pass()
	return b.run(rows, c.limits.Tokens), nil
}

// BlendBytes is the scratch of a Blend of so many tokens, beside its desk.
func (c *CPU) BlendBytes(tokens int) int64 {
	return 4 * int64(tokens) * int64(c.config.Width+c.config.Heads*c.config.HeadDim+4)
}

func (b *cpuBlend) begin() {
	c, n := b.c, len(b.Tokens)
	b.s.Lay(n)
	for _, p := range b.Places {
		c.place(b.s, p)
	}
	b.x, b.q = make([]float32, n*c.config.Width), make([]float32, n*c.config.Heads*c.config.HeadDim)
	c.eachRow(n, func(row int) {
		c.weights.embedding.Row(rowOf(b.x, row, c.config.Width), int(b.Tokens[row]))
	})
}

// Passage copies the keys and values of the n tokens from position first on, which s
// must hold all, as every full cache does.
func (c *CPU) Passage(s Sequence, first, n int) (*passages.Passage, error) {
	kvHeads, held := c.config.KVHeads, s.(*cache.Sequence)
	p := &passages.Passage{Tokens: n, First: first, Heads: make([]passages.Head, c.config.Layers*kvHeads)}
	for i := range p.Heads {
		k, v := held.Segment(i/kvHeads, i%kvHeads)
		mustHold(held.Positions(i/kvHeads, i%kvHeads), first, n)
		p.Heads[i].K = slices.Clone(k[first*c.stored : (first+n)*c.stored])
		p.Heads[i].V = slices.Clone(v[first*c.stored : (first+n)*c.stored])
	}
	return p, nil
}

// mustHold panics where not all of a passage is among the positions of a KV head.
func mustHold(positions []int32, first, n int) {
	if len(positions) < first+n || int(positions[first+n-1]) != first+n-1 {
		panic(fmt.Sprintf("model: a passage from %d to %d of a sequence that has evicted some of it", first, first+n))
	}
}

// place writes a passage's keys and values to its slots, the keys as if they had been
// computed there.
func (c *CPU) place(s *cache.Sequence, p Place) {
	kvHeads, by := c.config.KVHeads, p.At-p.Passage.First
	turn := c.rotationBy(by) // of all threads
	c.run(len(p.Passage.Heads), func(i int, w *attendWorker) {
		h := &p.Passage.Heads[i]
		k, v := s.Segment(i/kvHeads, i%kvHeads)
		from, to := p.At*c.stored, (p.At+p.Passage.Tokens)*c.stored
		copy(v[from:to], h.V)
		if by != 0 {
			c.rotate(k[from:to], h.K, turn, w.q[:c.config.HeadDim])
		} else {
			copy(k[from:to], h.K)
		}
	})
}

// lay makes the chunk's rows those of the backend's scratch.
func (b *cpuBlend) lay(chunk []int) {
	c, n := b.c, len(chunk)
	b.b = batch{blocks: append(b.b.blocks[:0], block{sequence: b.s, n: n, fits: true, observed: n}), rows: n,
		positions: chunk, owner: b.b.owner[:0], works: append(b.b.works[:0], Work{}), tasks: b.b.tasks[:0], spans: b.b.spans[:0], watched: b.b.watched[:0], weighed: b.b.weighed[:0]}
	for range n {
		b.b.owner = append(b.b.owner, 0)
	}
	c.eachRow(n, func(row int) {
		copy(rowOf(c.x, row, c.config.Width), rowOf(b.x, chunk[row], c.config.Width))
	})
}

func (b *cpuBlend) keys(layer int, chunk []int) {
	b.lay(chunk)
	c, l, half := b.c, &b.c.weights.layers[layer], b.c.config.HeadDim/2
	width := c.config.Heads * c.config.HeadDim
	c.eachRow(len(chunk), func(row int) {
		rotation(rowOf(c.cos, row, half), rowOf(c.sin, row, half), c.frequencies, chunk[row])
	})
	c.norm(&b.b, l.attentionNorm)
	c.qkv(&b.b, l)
	c.eachRow(len(chunk), func(row int) {
		at := chunk[row]
		copy(rowOf(b.q, at, width), rowOf(c.q, row, width))
		off := deviation{}
		for kvHead := range c.config.KVHeads {
			k, v := b.s.Segment(layer, kvHead)
			from := kvHead*len(chunk) + row
			off.KeyApart += apart(c, rowOf(k, at, c.stored), rowOf(c.blockK, from, c.stored), &off.KeySize)
			off.ValueApart += apart(c, rowOf(v, at, c.stored), rowOf(c.blockV, from, c.stored), &off.ValueSize)
		}
		b.apart[at] = off
	})
	c.Clock.Mark(Cache)
}

// apart replaces what is stored by what was computed and returns the square of the
// distance; that of the computed length is added to size.
func apart(c *CPU, stored, computed []uint16, size *float32) float32 {
	sum, dim := float32(0), c.config.HeadDim
	for i := range dim {
		old, new := float32(0), float32(0)
		for j := i; j < len(stored); j += dim {
			old += math.Float32frombits(uint32(stored[j]) << 16)
			new += math.Float32frombits(uint32(computed[j]) << 16)
		}
		sum += (new - old) * (new - old)
		*size += new * new
	}
	copy(stored, computed)
	return sum
}

func (b *cpuBlend) attend(layer int, chunk []int, observed int) {
	b.lay(chunk)
	c, l := b.c, &b.c.weights.layers[layer]
	width := c.config.Heads * c.config.HeadDim
	block := &b.b.blocks[0]
	_, block.reduce = b.s.Observed(len(b.Tokens), b.Question)
	block.observed, _ = slices.BinarySearch(chunk, observed)
	c.eachRow(len(chunk), func(row int) { copy(rowOf(c.q, row, width), rowOf(b.q, chunk[row], width)) })
	c.partials.reset()
	for kvHead := range c.config.KVHeads {
		first := len(b.b.spans)
		k, v := b.s.Segment(layer, kvHead)
		b.b.split(k, v, c.stored, 1)
		for i := first; i < len(b.b.spans); i++ {
			b.b.spans[i].rows = chunk
		}
		b.b.watch(0, kvHead, first, heldSlots)
		c.addTasks(&b.b, 0, kvHead, first)
	}
	slices.SortFunc(b.b.tasks, func(x, y attendTask) int { return cmp.Compare(y.cost, x.cost) })
	c.Clock.Mark(Cache)
	c.attend(&b.b, layer)
	c.observe(&b.b, layer)
	c.project(&b.b, l)
	c.norm(&b.b, l.ffnNorm)
	c.feedForward(&b.b, l)
	c.eachRow(len(chunk), func(row int) {
		copy(rowOf(b.x, chunk[row], c.config.Width), rowOf(c.x, row, c.config.Width))
	})
	c.Clock.Mark(Rows)
}

func (b *cpuBlend) finish() []float32 {
	c := b.c
	copy(rowOf(c.x, 0, c.config.Width), rowOf(b.x, len(b.Tokens)-1, c.config.Width))
	c.unembed(c.finish(0, 1, 0))
	c.Clock.Mark(Logits)
	b.s.Advance(len(b.Tokens))
	b.x, b.q = nil, nil
	return rowOf(c.out, 0, c.config.Vocab)
}
