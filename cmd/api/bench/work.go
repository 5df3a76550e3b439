// Package bench times works of the decoder, run by run beside a peer's, and
// writes what it found as JSON, as a table and as pages with figures.
package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Work is one thing to time.
type Work struct {
	Prompt int `json:"prompt"` // tokens of each prompt
	Tokens int `json:"tokens"` // produced after each prompt
	Batch  int `json:"batch"`  // sequences at a time
	Busy   int `json:"busy"`   // other processes that keep the cores busy meanwhile
}

func (w Work) String() string {
	s := fmt.Sprintf("%d tokens after a prompt of %d, batch %d", w.Tokens, w.Prompt, w.Batch)
	if w.Busy > 0 {
		s += fmt.Sprintf(", beside %d busy processes", w.Busy)
	}
	return s
}

// Timing is one run of a Work.
type Timing struct {
	First  time.Duration `json:"first_ns"`             // from the start to the first sequence's first token
	Decode time.Duration `json:"decode_ns"`            // from there, with all prompts read, to the last token
	Held   int64         `json:"held_bytes,omitempty"` // of all caches together, in the end
	Others float64       `json:"others,omitempty"`     // share of the machine that other programs took meanwhile
	Limits Limits        `json:"limits,omitzero"`      // of the machine in its session, where sessions are joined
	Reads  [2]float64    `json:"read_gb_s,omitzero"`   // what memory gave right before the run, and right behind it

	session int // its number, where sessions are joined
}

// read is the bandwidth that a run's share is of: the higher of the two beside it, since
// all that else runs can only slow a probe down, and a machine that has changed in between
// is not to flatter us; without probes, that of the session. Behind a long prompt the
// first is as old as the prompt took to read.
func (t Timing) read(session Limits) float64 {
	if best := max(t.Reads[0], t.Reads[1]); best > 0 {
		return best
	}
	return t.Limits.or(session).ReadGBs
}

// Prefill is the prompt's rate in tokens/s. It is that of one prompt, so a batch
// of prompts has none.
func (w Work) Prefill(t Timing) float64 { return float64(w.Prompt) / t.First.Seconds() }

// Decode is the rate of all sequences together in tokens/s; the first token of
// each belongs to its prompt.
func (w Work) Decode(t Timing) float64 {
	return float64(w.Batch*(w.Tokens-1)) / t.Decode.Seconds()
}

// Runner runs works: our engine with one cache, or a peer with one file.
type Runner interface {
	Run(ctx context.Context, prompts [][]int32, tokens int) (Timing, error)
	Used() time.Duration // processor time so far, of the process that computes
}

// Contender is a Runner and what its figures are filed under.
type Contender struct {
	Runner `json:"-"`
	Name   string `json:"name"`
	Cache  string `json:"cache"`  // ours: the cache
	Budget string `json:"budget"` // and its budget, "" where the work decides
	File   string `json:"file"`   // base name of the weights
	Peer   bool   `json:"peer"`
}

// Measured is all runs of a Work by a Contender.
type Measured struct {
	Contender Contender `json:"contender"`
	Work      Work      `json:"work"`
	Timings   []Timing  `json:"timings"`
}

// Works lists what to time: every prompt length alone, longer batches after a
// prompt of one token, and one answer beside busy processes. An empty prompt
// cannot be; depth 0 is a prompt of one token.
func Works(depths, batches []int, tokens, busy, context int) []Work {
	var works []Work
	for _, depth := range depths {
		works = append(works, Work{Prompt: max(1, min(depth, context-tokens)), Tokens: tokens, Batch: 1})
	}
	for _, batch := range batches {
		if batch > 1 {
			works = append(works, Work{Prompt: 1, Tokens: tokens, Batch: batch})
		}
	}
	if busy > 0 {
		works = append(works, Work{Prompt: 1, Tokens: tokens, Batch: 1, Busy: busy})
	}
	return works
}

// words are n random tokens of the vocabulary: no cache can know them.
func words(random *rand.Rand, n int, vocabulary int) []int32 {
	prompt := make([]int32, n)
	for i := range prompt {
		prompt[i] = int32(random.IntN(vocabulary))
	}
	return prompt
}
