package model

import (
	"errors"
	"fmt"
	"slices"

	"lessrag/decode/passages"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// cudaBlend is what a card does of a Blend. The residual stream and the queries of all tokens lie beside those of a pass, into
// which a chunk's rows are copied; which rows go on is decided on the processor.
type cudaBlend struct {
	*Blend
	c *CUDA
	s *cudaSequence // the desk
}

// Blend goes on with a prompt for about as long as a pass of rows tokens takes.
func (c *CUDA) Blend(b *Blend, rows int) (done bool, err error) {
	s, ok := b.Desk.(*cudaSequence)
	switch {
	case !ok || s.backend != c:
		return false, errDesk
	case c.gone != nil:
		return false, c.gone
	case s.of != c.generation:
		return false, errors.New("model: a blend on a desk of a device that has been lost since")
	case len(b.Tokens) > c.limits.Blend:
		return false, fmt.Errorf("model: a blend of %d tokens on a device with memory for %d", len(b.Tokens), c.limits.Blend)
	}
	if b.device == nil {
		if err := b.begin(c.config, c.config.HeadDim, s.books.Sequence, &cudaBlend{Blend: b, c: c, s: s}); err != nil {
			return false, err
		}
	}
	done = b.run(rows, c.limits.Tokens)
	if err := c.failure(); err != nil {
		return false, err
	}
	return done, nil
}

// BlendBytes is what a Blend takes beside its desk and the scratch of a pass: nothing.
func (c *CUDA) BlendBytes(int) int64 { return 0 }

func (b *cudaBlend) begin() {
	c, s, n := b.c, b.s, len(b.Tokens)
	for layer := range s.books.layers() {
		s.books.append(layer, n)
	}
	if width := s.plan.Width(); width > 0 {
		c.check(c.stream.Upload(device.Pointer(4*s.sums), make([]byte, 4*len(s.plan.Slots)*s.room*width)))
	}
	for _, p := range b.Places {
		c.place(s, p)
	}
	tokens := table[int32]{values: b.Tokens}
	c.tables.put(cuda.Bytes(tokens.values), &tokens.at)
	c.send(&c.tables)
	c.check(c.kernels.Embed(c.stream, c.weights.embedding, tokens.at, c.residual, n))
}

// place writes a passage's keys and values to its slots, the keys as if they had been computed there.
func (c *CUDA) place(s *cudaSequence, p Place) {
	kvHeads, by := c.heads.KVHeads, p.At-p.Passage.First
	for i := range p.Passage.Heads {
		h, to := &p.Passage.Heads[i], s.placeOf(i/kvHeads, i%kvHeads).In(i/kvHeads).After(p.At)
		c.check(c.stream.Upload(c.rowAt(to.Key), cuda.Bytes(h.K)))
		c.check(c.stream.Upload(c.rowAt(to.Value), cuda.Bytes(h.V)))
	}
	if by == 0 {
		return
	}
	t := cutTables{}
	t.turnRun(s, s.place.After(p.At), p.Passage.Tokens, by)
	t.stage(&c.late)
	c.send(&c.late)
	for layer := range c.config.Layers {
		c.check(c.kernels.Turn(c.stream, c.heads, 0, t.turns.at, t.cos.at, t.sin.at, p.Passage.Tokens, layer))
	}
}

// turnRun turns n keys where they lie, by so many positions.
func (t *cutTables) turnRun(s *cudaSequence, at cuda.Place, n, by int) {
	angle := t.angle(s, by)
	for i := range n {
		key := at.After(i)
		t.turns.add(cuda.Turn{Copy: key.Key, CopyLayer: key.Layer, CopyHead: key.Head, Key: key.Key, KeyLayer: key.Layer, KeyHead: key.Head, Angle: angle})
	}
}

// rowAt is where a row of memory, of a key or a value, lies.
func (c *CUDA) rowAt(row int64) device.Pointer { return device.Pointer(2 * int64(c.heads.Dim) * row) }

// lay makes the chunk's rows those of a pass. Those from a position on are observed.
func (b *cudaBlend) lay(chunk []int, observed int) (*cudaBatch, *wave) {
	c, s, n, kvHeads := b.c, b.s, len(chunk), b.c.heads.KVHeads
	sees := chunk[n-1] + 1
	batch := &cudaBatch{rows: n, waves: make([]wave, 1), splits: (sees + c.span - 1) / c.span}
	w := &batch.waves[0]
	for row, position := range chunk {
		batch.at.add(int32(position))
		batch.live.add(slices.Repeat([]int32{int32(position + 1)}, kvHeads)...)
		w.rows.add(int32(row))
		w.stores.add(cuda.Store{Row: int64(row), To: s.place})
	}
	for at, size := 0, c.heads.TileQueries(); at < n; at += size {
		w.blocks.rows.add(cuda.Tile{First: int32(at), Rows: int32(min(size, n-at))})
		w.blocks.held.add(s.place)
	}
	if first, _ := slices.BinarySearch(chunk, observed); first < n {
		_, reduce := s.books.Observed(len(b.Tokens), b.Question)
		width := int64(s.plan.Width())
		w.watches[s.sightOf(reduce, n-first)].add(true, cuda.Watch{First: int64(first), Rows: int64(n - first),
			Sums: s.sums, SumsLayer: s.place.Layer * width, SumsHead: s.place.Head * width, Known: int64(s.room)}, s.place, sees)
	}
	c.upload(batch)
	c.check(c.kernels.Gather(c.stream, c.residual, c.x, batch.at.at, n, 4*c.config.Width))
	return batch, w
}

func (b *cudaBlend) keys(layer int, chunk []int) {
	c, s, l, n := b.c, b.s, &b.c.weights.layers[layer], len(chunk)
	batch, w := b.lay(chunk, len(b.Tokens))
	keys, values := rowAligned(c.blockK, c.heads.Dim), rowAligned(c.blockV, c.heads.Dim)
	c.norm(batch, l.attentionNorm)
	c.qkv(batch, l)
	c.rope(batch)
	if layer > 0 { // all rows of the first go on
		off := make([]cuda.Deviation, n)
		c.check(c.kernels.Deviate(c.stream, c.heads, 0, keys, values, w.blocks.held.at, batch.at.at, c.deviations, n, layer))
		c.download(cuda.Bytes(off), c.deviations)
		for row, at := range chunk {
			b.apart[at] = deviation(off[row])
		}
	}
	c.store(batch, layer, w)
	c.check(c.kernels.Scatter(c.stream, c.q, c.queries, batch.at.at, n, s.queryBytes()))
}

// queryBytes is what the queries of a row take.
func (s *cudaSequence) queryBytes() int { return 2 * s.backend.heads.Heads * s.backend.heads.Dim }

func (b *cudaBlend) attend(layer int, chunk []int, observed int) {
	c, l, n := b.c, &b.c.weights.layers[layer], len(chunk)
	batch, w := b.lay(chunk, observed)
	c.check(c.kernels.Gather(c.stream, c.queries, c.q, batch.at.at, n, b.s.queryBytes()))
	c.attend(batch, layer, w)
	c.observe(batch, layer, w)
	c.merge(batch, layer, w)
	c.project(batch, l)
	c.norm(batch, l.ffnNorm)
	c.feedForward(batch, l)
	c.finish(batch)
	c.check(c.kernels.Scatter(c.stream, c.x, c.residual, batch.at.at, n, 4*c.config.Width))
}

func (b *cudaBlend) finish() []float32 {
	c, s, n := b.c, b.s, len(b.Tokens)
	batch, _ := b.lay([]int{n - 1}, n)
	batch.pick = batch.waves[0].rows
	c.unembed(batch, 0, 1)
	s.books.Advance(n)
	s.position, s.seen = n, n
	return c.row(0)
}

// Passage copies the keys and values of the n tokens from position first on, which s must hold all, as every full cache
// does: in the form of the CPU's.
func (c *CUDA) Passage(s Sequence, first, n int) (*passages.Passage, error) {
	held, kvHeads := s.(*cudaSequence), c.heads.KVHeads
	p := &passages.Passage{Tokens: n, First: first, Heads: make([]passages.Head, c.config.Layers*kvHeads)}
	for i := range p.Heads {
		layer, head, h := i/kvHeads, i%kvHeads, &p.Heads[i]
		mustHold(held.books.Positions(layer%held.books.layers(), head%held.books.heads), first, n)
		at := held.placeOf(layer, head).In(layer).After(first)
		h.K, h.V = make([]uint16, n*c.heads.Dim), make([]uint16, n*c.heads.Dim)
		c.download(cuda.Bytes(h.K), c.rowAt(at.Key))
		c.download(cuda.Bytes(h.V), c.rowAt(at.Value))
	}
	if err := c.failure(); err != nil {
		return nil, err
	}
	return p, nil
}

// Move fills a new sequence with what its policy keeps of a desk; its states absorb the rest. What fails is told by the next
// Forward.
func (c *CUDA) Move(sequence, desk Sequence) {
	s, from := sequence.(*cudaSequence), desk.(*cudaSequence)
	n := from.position
	for layer := range s.books.layers() {
		t := cutTables{}
		t.add(s, layer, from.place, s.books.insert(layer, n, from.sumsOf(layer)))
		if t.stage(&c.late); t.empty() {
			continue
		}
		c.send(&c.late)
		if s.books.layers() == c.config.Layers {
			c.cut(layer, &t)
			continue
		}
		for layer := range c.config.Layers { // the books of one stand for all
			c.cut(layer, &t)
		}
	}
	s.books.Advance(n)
	if s.pace != s.books.Sequence {
		numbers := make([]uint16, n)
		s.pace.Insert(0, numbers, numbers, nil)
		s.pace.Advance(n)
	}
	s.position = n
}

// sumsOf [kvHeads, tokens] is what the tokens on a desk got of attention in a layer; nil: nothing is observed.
func (s *cudaSequence) sumsOf(layer int) []float32 {
	if s.plan.Width() == 0 {
		return nil
	}
	return s.backend.sumsAt(device.Pointer(4*(s.sums+int64(layer*s.backend.heads.KVHeads*s.room))), s.room, s.position)
}
