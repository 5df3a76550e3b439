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
	asks    bool // a row asks a state of LESS
	recalls bool // a row asks a state of moments
	splits  int  // of what sequences hold in 16 bits

	packSplits int // of what they hold packed

	tokens   table[int32]
	cos, sin table[float32] // [rows, headDim/2]
	live     table[int32]   // [layers, rows, kvHeads] slots that a row sees; of one layer where it is the same in all
	packed   table[int32]   // likewise, packed groups that a row sees
	layered  bool           // it is not
	stride   int            // of layers in live
	ownLive  table[int32]   // [rows, kvHeads] rows of its own block that it sees besides
	asked    table[int64]   // [rows] the table of the row's states of LESS; below 0, it asks none
	recalled table[int64]   // likewise, of moments
	at       table[int32]   // [rows] positions
	pick     table[int32]   // rows whose logits are wanted: Targets first, block by block
	count    table[int32]   // of the others, how many of the likeliest tokens are enough; 0: none are
	heat     table[float32]
}

// cudaBlock is one Work's place in the batch.
type cudaBlock struct {
	sequence *cudaSequence
	first, n int // rows
	wave     int // how many earlier blocks of the batch are the same sequence's
	position int // of its first token

	evicts, fits bool // it makes room first, and is stored before it is attended
	waits        bool // for what earlier blocks of the batch leave: how it makes room is decided while the pass runs
	booked       bool // the books of a sequence that decides by attention have its tokens
	learns       bool // there is something that was observed since the last decision
	saw          int  // slots that it sees, beside its own rows where it does not fit
}

// wave is what the n-th block of each sequence of a batch needs.
type wave struct {
	evictions cutTables         // that make room
	stores    table[cuda.Store] // of blocks that fit
	inserts   cutTables         // of blocks that did not
	layers    []layerCuts       // [layers] of sequences of which each KV head gives up tokens of its own; nil: none does
	staged    int               // of so many layers, these are among what is uploaded before the pass
	late      []int             // blocks that are decided while the pass runs: they wait, or do not fit
	steps     tiles             // newest tokens of answers
	blocks    tiles             // of prompts
	rows      table[int32]      // all of them
	asks      table[cuda.Ask]   // blocks whose queries choose channels
	watches   [len(sights)]watches
	packed    [len(packings)]packedTiles
}

// tiles are rows that are attended together.
type tiles struct {
	rows table[cuda.Tile]
	held table[cuda.Place] // what their sequences hold
	own  table[cuda.Place] // their blocks, where these lie
}

// parts is how many partial results of attention a row has over tokens.
func (b *cudaBatch) parts() int {
	n := b.splits + b.packSplits
	if b.own {
		n++
	}
	return n
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
	b := &cudaBatch{works: work, results: make([]Result, len(work)), splits: 1}
	if err := checkSequences(work, c.limits); err != nil {
		return nil, err
	}
	ahead := make([]int, len(work)) // tokens of earlier blocks of the same sequence
	for i, w := range work {
		sequence, ok := w.Sequence.(*cudaSequence)
		if !ok || sequence.backend != c {
			return nil, fmt.Errorf("model: sequence %d was made by another backend", i)
		}
		if sequence.of != c.generation {
			return nil, fmt.Errorf("model: sequence %d was on a device that has been lost since", i)
		}
		if follows(work, i) {
			ahead[i] = ahead[i-1] + len(work[i-1].Tokens)
		}
		if err := checkWork(work, i, sequence.position+ahead[i], b.rows, c.config, c.limits); err != nil {
			return nil, err
		}
		if sequence.exceeds(ahead[i] + len(w.Tokens)) {
			return nil, fmt.Errorf("model: sequence %d would exceed its cache of %d slots", i, sequence.room)
		}
		b.layered = b.layered || sequence.each || sequence.late
		block := cudaBlock{sequence: sequence, first: b.rows, n: len(w.Tokens), position: sequence.position + ahead[i]}
		if follows(work, i) {
			block.wave = b.blocks[i-1].wave + 1
		}
		b.blocks = append(b.blocks, block)
		b.rows += len(w.Tokens)
	}
	b.abandon()
	layers := 1
	if b.layered {
		layers = c.config.Layers
	}
	b.stride = (b.rows*c.heads.KVHeads + 3) &^ 3 // kernels expect an address that is a multiple of 16
	b.live.values, b.packed.values = make([]int32, layers*b.stride), make([]int32, layers*b.stride)
	c.decideFirst(b)
	for i := range b.blocks {
		c.layOut(b, i)
	}
	return b, nil
}

// abandon drops the last Works of the batch that nobody wants any more. Those before
// them are computed to the end: a card has all of a pass before it has begun.
func (b *cudaBatch) abandon() {
	if n := stillWanted(b.works[:len(b.blocks)], b.results); n < len(b.blocks) {
		b.rows, b.blocks = b.blocks[n].first, b.blocks[:n]
	}
}

// liveAt is what rows see in a layer.
func (c *CUDA) liveAt(b *cudaBatch, layer int) device.Pointer {
	if !b.layered {
		layer = 0
	}
	return b.live.at + device.Pointer(4*layer*b.stride)
}

// scratchPlace is where rope leaves keys and values of the batch, in any layer.
func (c *CUDA) scratchPlace(b *cudaBatch) cuda.Place {
	row := device.Pointer(2 * c.heads.Dim)
	return cuda.Place{Key: int64(rowAligned(c.blockK, c.heads.Dim) / row), Value: int64(rowAligned(c.blockV, c.heads.Dim) / row), Head: int64(b.rows)}
}

// rotations are cos and sin of the rows' positions.
func (c *CUDA) rotations(b *cudaBatch) {
	half := c.config.HeadDim / 2
	b.cos.values, b.sin.values = make([]float32, b.rows*half), make([]float32, b.rows*half)
	for row, position := range b.at.values {
		rotation(rowOf(b.cos.values, row, half), rowOf(b.sin.values, row, half), c.frequencies, int(position))
	}
}

// upload brings the tables to the device, in one piece.
func (c *CUDA) upload(b *cudaBatch) {
	for i := range b.blocks {
		block, work := &b.blocks[i], &b.works[i]
		if !work.Logits {
			continue
		}
		b.pick.add(int32(block.first + block.n - 1))
		count := min(work.Likeliest, cuda.Likeliest)
		if c.config.Vocab > cuda.MostVocab {
			count = 0
		}
		b.count.add(int32(count))
		b.heat.add(work.Heat)
	}
	c.rotations(b)
	u := &c.tables
	for _, t := range []*table[int32]{&b.tokens, &b.live, &b.packed, &b.ownLive, &b.pick, &b.count, &b.at} {
		u.put(cuda.Bytes(t.values), &t.at)
	}
	for _, t := range []*table[float32]{&b.cos, &b.sin, &b.heat} {
		u.put(cuda.Bytes(t.values), &t.at)
	}
	u.put(cuda.Bytes(b.asked.values), &b.asked.at)
	u.put(cuda.Bytes(b.recalled.values), &b.recalled.at)
	for i := range b.waves {
		b.waves[i].stage(u)
	}
	for i := range b.waves {
		c.stageLayers(&b.waves[i])
	}
	c.send(u)
}

func (w *wave) stage(u *upload) {
	w.evictions.stage(u)
	w.inserts.stage(u)
	for i := range w.watches {
		w.watches[i].stage(u)
	}
	for i := range w.packed {
		w.packed[i].stage(u)
	}
	u.put(cuda.Bytes(w.stores.values), &w.stores.at)
	u.put(cuda.Bytes(w.rows.values), &w.rows.at)
	u.put(cuda.Bytes(w.asks.values), &w.asks.at)
	for _, t := range []*tiles{&w.steps, &w.blocks} {
		u.put(cuda.Bytes(t.rows.values), &t.rows.at)
		u.put(cuda.Bytes(t.held.values), &t.held.at)
		u.put(cuda.Bytes(t.own.values), &t.own.at)
	}
}

// growTables takes twice the memory that the tables need.
func (c *CUDA) growTables(u *upload) {
	c.dropGraphs()
	if u.room > 0 {
		c.check(c.stream.Wait())
		c.check(c.device.Free(u.memory))
	}
	u.memory, u.room = 0, 0
	memory, err := c.device.Alloc(int64(2 * len(u.staged)))
	if err != nil {
		c.check(fmt.Errorf("memory for a batch: %w", err))
		return
	}
	u.memory, u.room = memory, 2*len(u.staged)
}

// advance tells the books of sequences that decide by attention that all layers have stored the blocks that were late, and
// takes back the blocks that were only probes.
func (b *cudaBatch) advance() {
	for i := range b.blocks {
		block := &b.blocks[i]
		if block.sequence.watched() && !block.booked {
			block.sequence.books.Advance(block.n)
		}
		if b.works[i].Probe {
			block.sequence.rewind(block.n)
		}
	}
}
