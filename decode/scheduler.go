package decode

import (
	"cmp"
	"slices"
)

// Scheduler decides what the next forward pass computes. It is pure: it knows no
// clock, no goroutine and no device.
//
// Every
// running answer gets its next token in every pass, so that no prompt starves
// it; prompts share what one block holds, the shortest rest first, and one that
// was passed over patience times goes before them. A prompt's blocks end at the
// same places whatever else is running, and so its cache evicts at the same
// places alone or in company.
type Scheduler struct {
	Block int // prompt tokens in a pass at most, beside running answers
	Pass  int // and where none is running; 0: as many
}

// Task is what the Scheduler knows of a request.
type Task struct {
	Prompt int  // tokens of its prompt still to feed; 0: it is decoding
	Fed    int  // tokens of its prompt that were fed
	Slots  int  // tokens that a block of its prompt attends to at most
	Joins  int  // of the next tokens of its prompt, those whose blocks may be joined: nothing is evicted or observed there
	Chains int  // and those whose blocks may follow each other in one pass
	Passed int  // passes in which others fed their prompts and it could not
	Staged bool // its prompt is fed into the staging, which holds one at a time
	Probe  int  // tokens of its question that must be asked before more of the prompt fits; 0: none
}

// Step feeds the next tokens of one of the running tasks.
type Step struct {
	Task   int // its index
	Tokens int
}

const (
	// deepSlots is where attending to earlier tokens costs a prompt's block as
	// much as everything else does: measured on the default reader, where a token
	// takes 0.7 ms and 0.4 µs for each slot. Blocks are halved from there on, and
	// again at three times that, so that a pass takes at most about twice what it
	// takes at depth 0, and with it the pause of every running answer. Where none
	// is running, blocks are joined again as far as a cache allows, and others follow
	// each other in one pass: their tokens are multiplied with the weights together.
	deepSlots = 2048
	// patience is how many passes a long prompt lets shorter ones go first: while
	// they keep coming, it still gets one pass of five.
	patience = 4
)

// share is how many blocks of a prompt at this depth take the time of one at
// depth 0, about: the larger it is, the smaller they are.
func share(depth int) int {
	switch {
	case depth >= 3*deepSlots:
		return 4
	case depth >= deepSlots:
		return 2
	}
	return 1
}

// BlockEnd is the next place where a prompt's blocks end, after fed tokens of it:
// a function of that and of the slots that its cache has, and of nothing else.
func (s Scheduler) BlockEnd(fed, slots int) int {
	block := max(1, s.Block/share(min(fed, slots)))
	return fed + block - fed%block
}

// lastEnd is the last place at or before n where a prompt's block ends.
func (s Scheduler) lastEnd(n, slots int) int {
	end := 0
	for next := s.BlockEnd(0, slots); next <= n; next = s.BlockEnd(next, slots) {
		end = next
	}
	return end
}

// Tokens is how many tokens of its prompt a task feeds next.
func (s Scheduler) Tokens(t Task) int {
	if t.Probe > 0 {
		return t.Probe
	}
	return min(t.Prompt, s.BlockEnd(t.Fed, t.Slots)-t.Fed)
}

// joined is how many tokens of its prompt a task feeds as one block when no answer
// waits for the pass to end: those of blocks that take the time of a pass, and at least
// as many as one of depth 0 has. A last one that is not whole stays alone, as it is in
// company.
func (s Scheduler) joined(t Task) int {
	tokens, most := s.Tokens(t), max(s.Block, s.Pass/share(min(t.Fed, t.Slots)))
	for {
		next := s.BlockEnd(t.Fed+tokens, t.Slots) - t.Fed
		if next > min(t.Joins, most) {
			return tokens
		}
		tokens = next
	}
}

// Next decides what one pass feeds: decoding tasks first, prompts last. The steps of one
// task, where it has several, are side by side.
func (s Scheduler) Next(running []Task) []Step {
	var steps []Step
	for i, t := range running {
		if t.Prompt == 0 {
			steps = append(steps, Step{Task: i, Tokens: 1})
		}
	}
	alone := len(steps) == 0
	most, feed := s.Block, s.Tokens
	if alone {
		most, feed = max(s.Block, s.Pass), s.joined
	}
	room := most
	for _, i := range prompts(running) {
		for t, more := running[i], true; more; {
			tokens := feed(t)
			cost := tokens * share(min(t.Fed, t.Slots))
			if cost > room && room < most {
				return steps // whole blocks only, and nobody overtakes
			}
			room -= cost
			steps = append(steps, Step{Task: i, Tokens: tokens})
			t.Prompt, t.Fed, t.Joins, t.Chains = t.Prompt-tokens, t.Fed+tokens, t.Joins-tokens, t.Chains-tokens
			more = alone && t.Chains > 0
		}
	}
	return steps
}

// prompts lists the tasks whose prompts may be fed, in the order of their turns:
// those that were passed over too often, then by what is left. Of those that need
// the staging it lists the one that is in it, or else the first.
func prompts(tasks []Task) []int {
	var order []int
	for i, t := range tasks {
		if t.Prompt > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(x, y int) int {
		a, b := tasks[x], tasks[y]
		return cmp.Or(cmp.Compare(overdue(b), overdue(a)), cmp.Compare(a.Prompt, b.Prompt))
	})
	staged := slices.IndexFunc(order, func(i int) bool { return tasks[i].Staged && tasks[i].Fed > 0 })
	if staged < 0 {
		staged = slices.IndexFunc(order, func(i int) bool { return tasks[i].Staged })
	}
	if staged < 0 {
		return order
	}
	holder := order[staged]
	return slices.DeleteFunc(order, func(i int) bool { return tasks[i].Staged && i != holder })
}

// overdue is how often a task was passed over beyond its patience, from 1; or 0.
func overdue(t Task) int { return max(0, t.Passed-patience+1) }
