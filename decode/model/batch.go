package model

import (
	"fmt"
	"slices"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cpu"
)

// batch is a set of Works laid out as rows of one matrix.
type batch struct {
	works     []Work
	results   []Result
	blocks    []block
	tokens    []int32 // [rows]
	positions []int   // [rows]
	owner     []int   // [rows] index of the row's block
	rows      int     // falls when Works are abandoned
	waves     int     // Works that one sequence has at most

	tasks   []attendTask
	spans   []span
	watched []observeTask
	weighed []weighedHead
}

// block is one Work's place in the batch.
type block struct {
	sequence *cache.Sequence
	first, n int // rows
	wave     int // how many earlier blocks of the batch are the same sequence's
	ahead    int // and their tokens
	fits     bool
	step     bool // not a block of a prompt but the newest token of an answer

	observed int          // from this row on, attention is observed
	reduce   cache.Reduce // and its rows are joined so
	weighs   bool         // by the tiles of attention, for the KV head whose tasks are listed
}

// newBatch checks the Works against the limits and lays them out.
func (c *CPU) newBatch(work []Work) (*batch, error) {
	b := &c.batch
	*b = batch{works: work, results: make([]Result, len(work)),
		blocks: b.blocks[:0], tokens: b.tokens[:0], positions: b.positions[:0], owner: b.owner[:0],
		tasks: b.tasks[:0], spans: b.spans[:0], watched: b.watched[:0], weighed: b.weighed[:0]}
	if err := checkSequences(work, c.limits); err != nil {
		return nil, err
	}
	for i, w := range work {
		sequence, ok := w.Sequence.(*cache.Sequence)
		if !ok {
			return nil, fmt.Errorf("model: sequence %d was made by another backend", i)
		}
		n := len(w.Tokens)
		block := block{sequence: sequence, first: b.rows, n: n, step: n == 1 && !w.Prompt}
		if follows(work, i) {
			before := &b.blocks[i-1]
			block.wave, block.ahead = before.wave+1, before.ahead+before.n
		}
		position := sequence.Position() + block.ahead
		b.waves = max(b.waves, block.wave+1)
		if err := checkWork(work, i, position, b.rows, c.config, c.limits); err != nil {
			return nil, err
		}
		for j := range w.Tokens {
			b.positions = append(b.positions, position+j)
			b.owner = append(b.owner, i)
		}
		b.tokens = append(b.tokens, w.Tokens...)
		b.blocks = append(b.blocks, block)
		b.rows += n
	}
	return b, nil
}

// follows tells whether a Work goes on where the one before it ends.
func follows(work []Work, i int) bool { return i > 0 && work[i].Sequence == work[i-1].Sequence }

// checkSequences tells whether a batch is of as many sequences as there may be.
func checkSequences(work []Work, limits Limits) error {
	sequences := 0
	for i := range work {
		if !follows(work, i) {
			sequences++
		}
	}
	if len(work) == 0 || sequences > limits.Sequences {
		return fmt.Errorf("model: a batch of %d sequences, outside 1…%d", sequences, limits.Sequences)
	}
	return nil
}

// checkWork tells what is wrong with Work i, whose first token stands at a position and
// at a row of the batch.
func checkWork(work []Work, i, position, row int, config Config, limits Limits) error {
	w, n := work[i], len(work[i].Tokens)
	again := func(earlier Work) bool { return earlier.Sequence == w.Sequence }
	switch {
	case !follows(work, i) && slices.ContainsFunc(work[:i], again):
		return fmt.Errorf("model: sequence %d appears twice, with others between", i)
	case follows(work, i) && (w.Probe || work[i-1].Probe || work[i-1].Logits || work[i-1].Targets != nil || w.Sequence.Plan().Staging):
		return fmt.Errorf("model: block %d follows one of its sequence of which something is wanted", i)
	case n == 0:
		return fmt.Errorf("model: sequence %d has no tokens", i)
	case w.Targets != nil && len(w.Targets) != n:
		return fmt.Errorf("model: sequence %d has %d targets for %d tokens", i, len(w.Targets), n)
	case w.Question < 0 || w.Question > n:
		return fmt.Errorf("model: sequence %d has %d tokens, of which %d are a question", i, n, w.Question)
	case position+n > config.Context && !w.Sequence.Plan().Spec.Unlimited():
		return fmt.Errorf("model: sequence %d would exceed the context of %d tokens", i, config.Context)
	case row+n > limits.Tokens:
		return fmt.Errorf("model: a batch of more than %d tokens", limits.Tokens)
	}
	for j, token := range w.Tokens {
		if token < 0 || int(token) >= config.Vocab {
			return fmt.Errorf("model: token %d of sequence %d is %d, outside the vocabulary of %d", j, i, token, config.Vocab)
		}
	}
	for j, token := range w.Targets {
		if token < 0 || int(token) >= config.Vocab {
			return fmt.Errorf("model: target %d of sequence %d is %d, outside the vocabulary of %d", j, i, token, config.Vocab)
		}
	}
	return nil
}

// attentionISA is the instruction set that a block's attention is computed with: prompts
// go by numbers of 16 bits where the machine is fast at that, steps of answers, whose
// bound is the memory, by float32. The choice is the Work's alone, so that its result
// does not depend on what else is in the batch or on how a prompt is cut into blocks.
func (c *CPU) attentionISA(b *block) cpu.ISA {
	if c.math == Float32 || b.step {
		return min(c.isa, cpu.AVX512)
	}
	return c.isa
}

// abandon drops the last Works of the batch while nobody wants them any more.
func (b *batch) abandon() {
	if n := stillWanted(b.works[:len(b.blocks)], b.results); n < len(b.blocks) {
		b.rows, b.blocks = b.blocks[n].first, b.blocks[:n]
	}
}

// stillWanted is how many Works there are up to the last one that somebody still wants; the results of the
// others tell that they were abandoned.
func stillWanted(works []Work, results []Result) int {
	for n := len(works); n > 0; n-- {
		select {
		case <-works[n-1].Done:
			results[n-1].Abandoned = true
		default:
			return n
		}
	}
	return 0
}

// advance tells the sequences that all layers have stored their block, and takes
// back the blocks that were only probes.
func (b *batch) advance() {
	for i := range b.blocks {
		block := &b.blocks[i]
		block.sequence.Advance(block.n)
		if b.works[i].Probe {
			block.sequence.Rewind(block.n)
		}
	}
}
