package model

import (
	"fmt"

	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// cudaBatch is a set of Works laid out as rows, with all that the kernels must be
// told of them. The same in every layer, it is uploaded once.
type cudaBatch struct {
	works   []Work
	results []Result
	blocks  []cudaBlock
	rows    int
	waves   []wave
	pending bool // delta is still to be added to x
	own     bool // a block does not fit, and is attended where it lies
	splits  int  // of what sequences hold

	ids      []int32   // [rows] tokens
	turns    []float32 // [2, rows, headDim/2] cos, and sin
	live     table[int32]
	ownLive  table[int32]
	pick     table[int32] // rows whose logits are wanted: Targets first, block by block
	tokens   device.Pointer
	cos, sin device.Pointer
	memory   device.Pointer // of all tables
	room     int            // its bytes
	staged   []byte         // what is uploaded to it
}

// cudaBlock is one Work's place in the batch.
type cudaBlock struct {
	sequence *cudaSequence
	first, n int // rows
}

// wave is what the n-th block of each sequence of a batch needs.
type wave struct {
	evictions table[cuda.Move] // that make room
	stores    table[cuda.Move] // of blocks that fit
	inserts   table[cuda.Move] // of blocks that did not
	steps     tiles            // newest tokens of answers
	blocks    tiles            // of prompts
	rows      table[int32]     // all of them
}

// tiles are rows that are attended together.
type tiles struct {
	rows table[cuda.Tile]
	held table[cuda.Place] // what their sequences hold
	own  table[cuda.Place] // their blocks, where these lie
}

// parts is how many partial results of attention a row has.
func (b *cudaBatch) parts() int {
	if b.own {
		return b.splits + 1
	}
	return b.splits
}

// table is values and where they are on the device.
type table[T any] struct {
	values []T
	at     device.Pointer
}

func (t *table[T]) add(values ...T) { t.values = append(t.values, values...) }

// newBatch checks the Works against the limits and lays them out. Sequences move on: their
// tokens are stored by the pass that follows.
func (c *CUDA) newBatch(work []Work) (*cudaBatch, error) {
	old := &c.batch
	*old = cudaBatch{works: work, results: make([]Result, len(work)), splits: 1,
		ids: old.ids[:0], turns: old.turns[:0], memory: old.memory, room: old.room, staged: old.staged[:0]}
	b := old
	if err := checkSequences(work, c.limits); err != nil {
		return nil, err
	}
	ahead := make([]int, len(work)) // tokens of earlier blocks of the same sequence
	for i, w := range work {
		sequence, ok := w.Sequence.(*cudaSequence)
		if !ok || sequence.backend != c {
			return nil, fmt.Errorf("model: sequence %d was made by another backend", i)
		}
		if follows(work, i) {
			ahead[i] = ahead[i-1] + len(work[i-1].Tokens)
		}
		if err := checkWork(work, i, sequence.position+ahead[i], b.rows, c.config, c.limits); err != nil {
			return nil, err
		}
		held := &sequence.slots
		if !sequence.plan.Spec.Bounded() && len(held.positions)+ahead[i]+len(w.Tokens) > held.room {
			return nil, fmt.Errorf("model: sequence %d would exceed its cache of %d slots", i, held.room)
		}
		if w.Probe {
			return nil, fmt.Errorf("model: work %d is a probe, which a card does not take yet", i)
		}
		b.blocks = append(b.blocks, cudaBlock{sequence, b.rows, len(w.Tokens)})
		b.rows += len(w.Tokens)
	}
	b.abandon()
	for i := range b.blocks {
		c.layOut(b, i)
	}
	return b, nil
}

// abandon drops the last Works of the batch that nobody wants any more. Those before
// them are computed to the end: a card has all of a pass before it has begun.
func (b *cudaBatch) abandon() {
	for len(b.blocks) > 0 {
		last := len(b.blocks) - 1
		select {
		case <-b.works[last].Done:
			b.results[last].Abandoned = true
			b.rows = b.blocks[last].first
			b.blocks = b.blocks[:last]
		default:
			return
		}
	}
}

// layOut decides where a block's tokens go and what they see, and notes it for the
// kernels.
func (c *CUDA) layOut(b *cudaBatch, i int) {
	block, work := &b.blocks[i], b.works[i]
	s, n := block.sequence, block.n
	number := 0 // of the block's wave
	for j := i; j > 0 && b.blocks[j-1].sequence == s; j-- {
		number++
	}
	if number == len(b.waves) {
		b.waves = append(b.waves, wave{})
	}
	w := &b.waves[number]
	scratch := c.scratchPlace(b).After(block.first)

	if !s.slots.fits(n) && s.plan.Spec.Bounded() {
		before := len(s.slots.positions)
		moved, _ := s.slots.cut(s.position, 0)
		s.evicted += before - len(s.slots.positions)
		for _, m := range moved {
			w.evictions.add(cuda.Move{From: s.place.After(m.from), To: s.place.After(m.to)})
		}
	}
	held, fits := len(s.slots.positions), s.slots.fits(n)
	for row := range n {
		sees, own := held, row+1
		if fits {
			sees, own = held+row+1, 0
		}
		for range c.heads.KVHeads {
			b.live.add(int32(sees))
			b.ownLive.add(int32(own))
		}
		b.splits = max(b.splits, (sees+c.span-1)/c.span)
	}
	if fits {
		first := s.slots.append(s.position, n)
		for row := range n {
			w.stores.add(cuda.Move{From: scratch.After(row), To: s.place.After(first + row)})
		}
	} else {
		b.own = true
		moved, stored := s.slots.cut(s.position, n)
		s.evicted += held + n - len(s.slots.positions)
		for _, m := range moved {
			w.inserts.add(cuda.Move{From: s.place.After(m.from), To: s.place.After(m.to)})
		}
		for _, m := range stored {
			w.inserts.add(cuda.Move{From: scratch.After(m.from), To: s.place.After(m.to)})
		}
	}
	to, size := &w.blocks, c.heads.TileQueries()
	if n == 1 && !work.Prompt {
		to, size = &w.steps, 1
	}
	for at := 0; at < n; at += size {
		to.rows.add(cuda.Tile{First: int32(block.first + at), Rows: int32(min(size, n-at))})
		to.held.add(s.place)
		to.own.add(scratch)
	}
	for row, token := range work.Tokens {
		b.ids = append(b.ids, token)
		w.rows.add(int32(block.first + row))
		if work.Targets != nil {
			b.pick.add(int32(block.first + row))
		}
	}
	s.position += n
}

// scratchPlace is where rope leaves keys and values of the batch, in any layer.
func (c *CUDA) scratchPlace(b *cudaBatch) cuda.Place {
	row := device.Pointer(2 * c.heads.Dim)
	return cuda.Place{Key: int64(c.blockK / row), Value: int64(c.blockV / row), Head: int64(b.rows)}
}

// rotations are cos and sin of the rows' positions.
func (c *CUDA) rotations(b *cudaBatch) []float32 {
	half := c.config.HeadDim / 2
	turns := make([]float32, 2*b.rows*half)
	for i := range b.blocks {
		block := &b.blocks[i]
		start := block.sequence.position - block.n
		for j := i + 1; j < len(b.blocks) && b.blocks[j].sequence == block.sequence; j++ {
			start -= b.blocks[j].n
		}
		for row := range block.n {
			at := block.first + row
			rotation(rowOf(turns, at, half), rowOf(turns[b.rows*half:], at, half), c.frequencies, start+row)
		}
	}
	return turns
}

// upload brings the tables to the device, in one piece.
func (c *CUDA) upload(b *cudaBatch) {
	for i := range b.blocks {
		if block := &b.blocks[i]; b.works[i].Logits {
			b.pick.add(int32(block.first + block.n - 1))
		}
	}
	b.turns = c.rotations(b)
	var fix []func(base device.Pointer)
	put := func(data []byte, at *device.Pointer) {
		offset := device.Pointer(len(b.staged))
		b.staged = append(b.staged, data...)
		for len(b.staged)%16 != 0 { // what kernels expect of an address
			b.staged = append(b.staged, 0)
		}
		fix = append(fix, func(base device.Pointer) { *at = base + offset })
	}
	put(cuda.Bytes(b.ids), &b.tokens)
	half := len(b.turns) / 2
	put(cuda.Bytes(b.turns[:half]), &b.cos)
	put(cuda.Bytes(b.turns[half:]), &b.sin)
	for _, t := range []*table[int32]{&b.live, &b.ownLive, &b.pick} {
		put(cuda.Bytes(t.values), &t.at)
	}
	for i := range b.waves {
		w := &b.waves[i]
		put(cuda.Bytes(w.rows.values), &w.rows.at)
		for _, t := range []*table[cuda.Move]{&w.evictions, &w.stores, &w.inserts} {
			put(cuda.Bytes(t.values), &t.at)
		}
		for _, t := range []*tiles{&w.steps, &w.blocks} {
			put(cuda.Bytes(t.rows.values), &t.rows.at)
			put(cuda.Bytes(t.held.values), &t.held.at)
			put(cuda.Bytes(t.own.values), &t.own.at)
		}
	}
	if len(b.staged) > b.room {
		c.growTables(b)
	}
	for _, f := range fix {
		f(b.memory)
	}
	if c.failed == nil {
		c.check(c.stream.Upload(b.memory, b.staged))
	}
}

// growTables takes twice the memory that the tables need.
func (c *CUDA) growTables(b *cudaBatch) {
	if b.room > 0 {
		c.check(c.stream.Wait())
		c.check(c.device.Free(b.memory))
	}
	b.memory, b.room = 0, 0
	memory, err := c.device.Alloc(int64(2 * len(b.staged)))
	if err != nil {
		c.check(fmt.Errorf("memory for a batch: %w", err))
		return
	}
	b.memory, b.room = memory, 2*len(b.staged)
}
