package model

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"lessrag/decode/cache"
	"lessrag/decode/passages"
)

// Blend is CacheBlend (arXiv 2405.16444): a prompt some of whose passages were
// computed before, each by itself, so that their keys and values know nothing of what
// stands before them here. The first layer computes every row of the prompt. The
// second compares the keys and values that follow from it with the stored ones; the
// rows that deviate most go on, a share of the passages' rows, and from layer to layer
// slightly fewer of them. Rows outside stored passages are always computed. What was
// computed of a row takes the place of what was stored, and a row at position p sees
// the keys at positions up to p, whatever rows are computed beside it.
//
// The caller fills the exported fields and calls CPU.Blend until it is done.
type Blend struct {
	Desk     Sequence // an empty one made with cache.NewDesk, with a slot for every token
	Tokens   []int32
	Places   []Place // rising, without overlap
	Share    float64 // of the rows of Places that are computed in a layer, on average over the layers after the first; 1: all
	Question int     // how many of the last Tokens are the question's, for caches that observe them

	Logits   []float32 // [vocab] after the last token, when done; valid until the next call of the backend
	Computed int       // rows that were computed in a layer, on average over the layers after the first

	c          *CPU
	s          *cache.Sequence
	b          batch
	stored     []bool    // [tokens] the row is part of a Place
	candidates int       // how many are
	layer      int       // that is being computed
	attending  bool      // its keys are all there
	rows       []int     // positions that the layer computes, rising
	at         int       // of them, how many were done
	x          []float32 // [tokens, width] residual stream of the rows
	q          []float32 // [tokens, heads, headDim]
	keyApart   []float32 // [tokens] squared distance of a computed key from the stored one, over the KV heads
	valueApart []float32
	keySize    []float32 // [tokens] squared length of the computed key
	valueSize  []float32
	total      int // rows over the layers after the first

	trace func(layer int, rows []int) // nil, or told which rows a layer computes: for tests
}

// Place is a stored passage in a prompt.
type Place struct {
	At      int // position of its first token
	Passage *passages.Passage
}

// The share of rows falls linearly over the layers, from this much above the average
// to this much below.
const gradual = 0.25

// BlendBytes is the scratch of a Blend of so many tokens, beside its desk.
func (c Config) BlendBytes(tokens int) int64 {
	return 4 * int64(tokens) * int64(c.Width+c.Heads*c.HeadDim+4)
}

// Blend goes on with a prompt for about as long as a pass of rows tokens takes. An
// error means that it was refused before anything was computed.
func (c *CPU) Blend(b *Blend, rows int) (done bool, err error) {
	if b.c == nil {
		if err := b.start(c); err != nil {
			return false, err
		}
	}
	c.Clock.Pass()
	for left := rows * c.config.Layers; left > 0; {
		if b.layer == c.config.Layers {
			b.finish()
			return true, nil
		}
		left -= b.step(c.limits.Tokens)
	}
	return false, nil
}

// start checks a Blend and lays its passages out on the desk.
func (b *Blend) start(c *CPU) error {
	s, ok := b.Desk.(*cache.Sequence)
	n := len(b.Tokens)
	switch {
	case !ok:
		return fmt.Errorf("model: a blend on a desk of another backend")
	case !s.Plan().Staging || s.Position() != 0 || slices.Min(s.Plan().Slots) < n:
		return fmt.Errorf("model: a blend of %d tokens on a desk of %d", n, s.Plan().Keep)
	case n == 0 || n > c.config.Context:
		return fmt.Errorf("model: a blend of %d tokens, outside 1…%d", n, c.config.Context)
	case !(b.Share >= 0 && b.Share <= 1):
		return fmt.Errorf("model: a blend of a share of %v, outside 0…1", b.Share)
	case b.Question < 0 || b.Question > n:
		return fmt.Errorf("model: a blend of %d tokens, of which %d are a question", n, b.Question)
	}
	for i, token := range b.Tokens {
		if token < 0 || int(token) >= c.config.Vocab {
			return fmt.Errorf("model: token %d of a blend is %d, outside the vocabulary of %d", i, token, c.config.Vocab)
		}
	}
	end := 0
	for i, p := range b.Places {
		if p.At < end || p.At+p.Passage.Tokens > n {
			return fmt.Errorf("model: passage %d of a blend stands at %d, after one that ends at %d, of %d tokens", i, p.At, end, n)
		}
		if err := c.fits(p.Passage); err != nil {
			return fmt.Errorf("model: passage %d of a blend: %w", i, err)
		}
		end = p.At + p.Passage.Tokens
	}
	b.c, b.s = c, s
	s.Lay(n)
	b.stored = make([]bool, n)
	for _, p := range b.Places {
		c.place(s, p)
		for at := range p.Passage.Tokens {
			b.stored[p.At+at] = true
		}
		b.candidates += p.Passage.Tokens
	}
	width := c.config.Heads * c.config.HeadDim
	b.x, b.q = make([]float32, n*c.config.Width), make([]float32, n*width)
	b.keyApart, b.valueApart = make([]float32, n), make([]float32, n)
	b.keySize, b.valueSize = make([]float32, n), make([]float32, n)
	for at := range n {
		if b.Share > 0 || !b.stored[at] {
			b.rows = append(b.rows, at)
		}
	}
	c.eachRow(n, func(row int) {
		c.weights.embedding.Row(rowOf(b.x, row, c.config.Width), int(b.Tokens[row]))
	})
	return nil
}

// fits tells what is wrong with a passage for this model, nil if nothing.
func (c *CPU) fits(p *passages.Passage) error {
	if len(p.Heads) != c.config.Layers*c.config.KVHeads {
		return fmt.Errorf("it has %d KV heads, the model %d", len(p.Heads), c.config.Layers*c.config.KVHeads)
	}
	for i := range p.Heads {
		if h := &p.Heads[i]; h.Positions != nil || len(h.K) != p.Tokens*c.stored || len(h.V) != len(h.K) {
			return fmt.Errorf("KV head %d does not hold its %d tokens", i, p.Tokens)
		}
	}
	return nil
}

// Passage copies the keys and values of the n tokens from position first on, which s
// must hold all, as every full cache does.
func (c *CPU) Passage(s Sequence, first, n int) *passages.Passage {
	kvHeads, held := c.config.KVHeads, s.(*cache.Sequence)
	p := &passages.Passage{Tokens: n, First: first, Heads: make([]passages.Head, c.config.Layers*kvHeads)}
	for i := range p.Heads {
		k, v := held.Segment(i/kvHeads, i%kvHeads)
		if at := held.Positions(i/kvHeads, i%kvHeads); len(at) < first+n || int(at[first+n-1]) != first+n-1 {
			panic(fmt.Sprintf("model: a passage from %d to %d of a sequence that has evicted some of it", first, first+n))
		}
		p.Heads[i].K = slices.Clone(k[first*c.stored : (first+n)*c.stored])
		p.Heads[i].V = slices.Clone(v[first*c.stored : (first+n)*c.stored])
	}
	return p
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

// step does up to rows rows of a layer's keys, or of the rest of the layer, and
// returns how many it did.
func (b *Blend) step(rows int) int {
	chunk := b.rows[b.at:min(len(b.rows), b.at+rows)]
	b.lay(chunk)
	if !b.attending {
		b.keys(chunk)
	} else {
		b.attend(chunk)
	}
	if b.at += len(chunk); b.at < len(b.rows) {
		return len(chunk)
	}
	b.at = 0
	if b.attending = !b.attending; b.attending {
		b.choose()
		return len(chunk)
	}
	b.layer++
	return len(chunk)
}

// lay makes the chunk's rows those of the backend's scratch.
func (b *Blend) lay(chunk []int) {
	c := b.c
	n, half := len(chunk), c.config.HeadDim/2
	b.b = batch{blocks: append(b.b.blocks[:0], block{sequence: b.s, n: n, fits: true, observed: n}), rows: n,
		positions: chunk, owner: b.b.owner[:0], works: append(b.b.works[:0], Work{}), tasks: b.b.tasks[:0], spans: b.b.spans[:0], watched: b.b.watched[:0], weighed: b.b.weighed[:0]}
	for range n {
		b.b.owner = append(b.b.owner, 0)
	}
	c.eachRow(n, func(row int) {
		copy(rowOf(c.x, row, c.config.Width), rowOf(b.x, chunk[row], c.config.Width))
		if !b.attending {
			rotation(rowOf(c.cos, row, half), rowOf(c.sin, row, half), c.frequencies, chunk[row])
		}
	})
}

// keys computes the chunk's queries, keys and values, sees how far these are from
// the stored ones and stores them.
func (b *Blend) keys(chunk []int) {
	c, l := b.c, &b.c.weights.layers[b.layer]
	width := c.config.Heads * c.config.HeadDim
	c.norm(&b.b, l.attentionNorm)
	c.qkv(&b.b, l)
	c.eachRow(len(chunk), func(row int) {
		at := chunk[row]
		copy(rowOf(b.q, at, width), rowOf(c.q, row, width))
		b.keyApart[at], b.valueApart[at], b.keySize[at], b.valueSize[at] = 0, 0, 0, 0
		for kvHead := range c.config.KVHeads {
			k, v := b.s.Segment(b.layer, kvHead)
			from := kvHead*len(chunk) + row
			b.keyApart[at] += apart(c, rowOf(k, at, c.stored), rowOf(c.blockK, from, c.stored), &b.keySize[at])
			b.valueApart[at] += apart(c, rowOf(v, at, c.stored), rowOf(c.blockV, from, c.stored), &b.valueSize[at])
		}
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

// choose leaves, of the rows whose keys the layer has computed, those that go on.
// Distances of keys and values are compared by what keys and values measure on
// average in the layer. The last layer's rows serve nothing but the last row and what
// is observed.
func (b *Blend) choose() {
	if b.layer > 0 {
		b.deviating(b.goOn())
		b.total += len(b.rows)
	}
	if b.trace != nil {
		b.trace(b.layer, b.rows)
	}
	if b.layer == b.c.config.Layers-1 {
		first := min(b.observed(), len(b.Tokens)-1)
		b.rows = slices.DeleteFunc(b.rows, func(at int) bool { return at < first })
	}
}

// goOn is how many rows of stored passages this layer leaves.
func (b *Blend) goOn() int {
	if b.Share == 1 {
		return b.candidates
	}
	along := 0.5
	if last := b.c.config.Layers - 1; last > 1 {
		along = float64(b.layer-1) / float64(last-1)
	}
	share := b.Share * (1 + gradual - 2*gradual*along)
	return int(math.Round(share * float64(b.candidates)))
}

// deviating drops all rows of stored passages but the n that deviate most; of equal
// ones the later stay.
func (b *Blend) deviating(n int) {
	var k, v float64
	var stored []int
	for _, at := range b.rows {
		if b.stored[at] {
			stored = append(stored, at)
			k += float64(b.keySize[at])
			v += float64(b.valueSize[at])
		}
	}
	if n >= len(stored) {
		return
	}
	deviation := func(at int) float64 {
		return float64(b.keyApart[at])/max(k, math.SmallestNonzeroFloat32) + float64(b.valueApart[at])/max(v, math.SmallestNonzeroFloat32)
	}
	slices.SortFunc(stored, func(x, y int) int { return cmp.Or(cmp.Compare(deviation(x), deviation(y)), cmp.Compare(x, y)) })
	dropped := make(map[int]bool, len(stored)-n)
	for _, at := range stored[:len(stored)-n] {
		dropped[at] = true
	}
	b.rows = slices.DeleteFunc(b.rows, func(at int) bool { return dropped[at] })
}

// observed is the first position whose attention the cache wants to see; the number
// of tokens where it wants none.
func (b *Blend) observed() int {
	first, _ := b.s.Observed(len(b.Tokens), b.Question)
	return first
}

// attend takes the chunk's rows through the rest of the layer.
func (b *Blend) attend(chunk []int) {
	c, l := b.c, &b.c.weights.layers[b.layer]
	width := c.config.Heads * c.config.HeadDim
	block := &b.b.blocks[0]
	_, block.reduce = b.s.Observed(len(b.Tokens), b.Question)
	block.observed, _ = slices.BinarySearch(chunk, b.observed())
	c.eachRow(len(chunk), func(row int) { copy(rowOf(c.q, row, width), rowOf(b.q, chunk[row], width)) })
	c.partials.reset()
	for kvHead := range c.config.KVHeads {
		first := len(b.b.spans)
		k, v := b.s.Segment(b.layer, kvHead)
		b.b.split(k, v, c.stored, 1)
		for i := first; i < len(b.b.spans); i++ {
			b.b.spans[i].rows = chunk
		}
		b.b.watch(0, kvHead, first, heldSlots)
		c.addTasks(&b.b, 0, kvHead, first)
	}
	slices.SortFunc(b.b.tasks, func(x, y attendTask) int { return cmp.Compare(y.cost, x.cost) })
	c.Clock.Mark(Cache)
	c.attend(&b.b, b.layer)
	c.observe(&b.b, b.layer)
	c.project(&b.b, l)
	c.norm(&b.b, l.ffnNorm)
	c.feedForward(&b.b, l)
	c.eachRow(len(chunk), func(row int) {
		copy(rowOf(b.x, chunk[row], c.config.Width), rowOf(c.x, row, c.config.Width))
	})
	c.Clock.Mark(Rows)
}

// finish computes the logits and hands the desk over.
func (b *Blend) finish() {
	c := b.c
	copy(rowOf(c.x, 0, c.config.Width), rowOf(b.x, len(b.Tokens)-1, c.config.Width))
	c.unembed(c.finish(0, 1, 0))
	b.Logits = rowOf(c.out, 0, c.config.Vocab)
	c.Clock.Mark(Logits)
	b.s.Advance(len(b.Tokens))
	b.Computed = b.total / max(1, c.config.Layers-1)
	b.x, b.q, b.keyApart, b.valueApart, b.keySize, b.valueSize = nil, nil, nil, nil, nil, nil
}
