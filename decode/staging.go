package decode

import (
	"fmt"
	"slices"

	"lessrag/decode/cache"
	"lessrag/decode/model"
)

// staging is where a prompt waits until it has been read, where the cache asks a question
// or decides at the end: one
// scratch sequence for the whole engine, which holds one prompt at a time and
// evicts nothing. When the prompt has ended, the cache chooses, for all KV heads
// at once, what its question needs; that moves to the job's own sequence. A prompt
// that does not fit is read in chunks: whenever the staging is full, the question
// is asked (a probe, forgotten again), part of the tokens is given up, and the
// next chunk follows. It belongs to the engine's goroutine.
type staging struct {
	sequence model.Sequence // nil until a prompt needs it
	job      *job           // whose prompt is in it, or nil
	held     int            // tokens of the fullest KV head
}

// questionWindow is how many last tokens stand for the question where it is not
// known: the observation window of SnapKV.
const questionWindow = 32

// asked is how many last tokens of the prompt ask: the question's, as many as fit
// into a block.
func (j *job) asked(o Options) int {
	question := j.question
	if question == 0 {
		question = questionWindow
	}
	return min(question, o.Block, len(j.prompt))
}

// asks tells whether the job's cache wants to know what is asked; another one's prompt is
// staged only to be read whole.
func (j *job) asks() bool { return j.plan.Spec.AsksQuestion() }

// reusable is how many first tokens of the prompt may come from a kept prefix: the
// last one must be fed for what follows it, and a question to be asked; and what a
// staging gave up between chunks is not kept.
func (j *job) reusable(o Options) int {
	most := len(j.prompt) - 1
	if j.staged {
		most = min(most, len(j.prompt)-j.asked(o))
		if j.plan.Spec.Think != 0 { // its last queries are not kept with a prefix
			most = min(most, max(0, len(j.prompt)-questionWindow))
		}
		if len(j.prompt) > o.StagingTokens {
			most = min(most, o.StagingTokens-j.asked(o))
		}
	}
	return most
}

// StagingBytes is what prompts for a plan's cache are staged in, beside CacheMemory: one for
// the whole engine, taken when the first one needs it. 0 where none is staged.
func (e *Engine) StagingBytes(plan cache.Plan) (int64, error) {
	if !plan.Spec.Stages() {
		return 0, nil
	}
	staging, err := cache.NewStaging(plan.Spec, e.options.StagingTokens, plan.Shape)
	return staging.Bytes, err
}

// probe is how many tokens must be asked before n more of the prompt fit into the
// staging, 0 if they do. Room for the question is left unless the whole rest fits.
func (s *staging) probe(j *job, n int, o Options) int {
	if s.job != j || !j.asks() || s.held+len(j.prompt)-j.fed <= o.StagingTokens || s.held+n <= o.StagingTokens-j.asked(o) {
		return 0
	}
	return j.asked(o)
}

// ended tells whether what is staged of a job's prompt moves to its own sequence: at
// the end, or, where nothing is asked, when no more fits.
func (s *staging) ended(j *job, e *Engine) bool {
	if j.fed == len(j.prompt) {
		return true
	}
	return !j.asks() && s.held+e.scheduler.Tokens(j.task(e)) > e.options.StagingTokens
}

// fedUnder is the plan of the sequence that a job's prompt is fed to.
func (e *Engine) fedUnder(j *job) (cache.Plan, error) {
	if !j.staged {
		return j.plan, nil
	}
	return cache.NewStaging(j.plan.Spec, e.options.StagingTokens, j.plan.Shape)
}

// enter readies the staging for a job's prompt.
func (e *Engine) enter(j *job) error {
	s := &e.staging
	plan, err := e.fedUnder(j)
	if err != nil {
		return err
	}
	if s.sequence != nil && s.sequence.Plan().Spec != plan.Spec {
		if err := s.sequence.Free(); err != nil {
			return fmt.Errorf("free the staging: %w", err)
		}
		s.sequence = nil
	}
	if s.sequence == nil {
		if s.sequence, err = e.backend.NewSequence(plan); err != nil {
			return fmt.Errorf("staging: %w", err)
		}
	}
	e.backend.Reset(s.sequence)
	s.job = j
	e.resume(j, s.sequence)
	s.held = j.fed
	e.mu.Lock()
	e.stats.Staging = plan.Bytes
	e.mu.Unlock()
	return nil
}

// stagedWork is the next block of n tokens of a prompt in the staging, or the probe
// that must come first.
func (e *Engine) stagedWork(j *job, n int) model.Work {
	w := model.Work{Sequence: e.staging.sequence, Prompt: true, Done: j.ctx.Done()}
	first := len(j.prompt) - j.asked(e.options) // of the question
	if e.staging.probe(j, n, e.options) > 0 {
		w.Tokens, w.Question, w.Probe = j.prompt[first:], len(j.prompt)-first, true
		return w
	}
	w.Tokens = j.prompt[j.fed : j.fed+n]
	w.Question = min(n, max(0, j.fed+n-first))
	w.Logits = j.fed+n == len(j.prompt)
	return w
}

// choose asks the cache of a job what its question needs of the prompt in the staging
// or on the desk: of a chunk, up to keep tokens of every KV head, or at the end.
func (e *Engine) choose(j *job, scratch model.Sequence, keep int, end bool) cache.Choice {
	s := e.backend.Staged(scratch)
	s.Keep = slices.Repeat([]int{keep}, len(s.Positions))
	read := len(j.prompt)
	s.Question, s.End, s.Weights = read-j.asked(e.options), end, e.headWeights
	if !end {
		read = j.fed
		s.Question = read // the probe stood there
	}
	s.Sentences = cache.Sentences(read, func(i int) []byte { return e.piece(j.prompt[i]) })
	return cache.ChooserOf(j.plan.Spec).Choose(s)
}

// shrink gives up what the question needs least, after a probe: the staging keeps
// half of its tokens, or the job's budget if that is more, and at most three
// quarters.
func (e *Engine) shrink(j *job) error {
	s, tokens := &e.staging, e.options.StagingTokens
	choice := e.choose(j, s.sequence, min(max(j.plan.Keep, tokens/2), tokens*3/4), false)
	e.backend.Retain(s.sequence, choice)
	s.held = 0
	for _, kept := range choice.Kept {
		s.held = max(s.held, len(kept))
	}
	if n := e.scheduler.Tokens(j.task(e)); s.probe(j, n, e.options) > 0 {
		return fmt.Errorf("%s kept %d of %d staged tokens: no room for the next chunk", j.plan.Spec, s.held, tokens)
	}
	return nil
}

// settle ends the job's time in the staging.
func (e *Engine) settle(j *job) error {
	if err := e.settleFrom(j, e.staging.sequence); err != nil {
		return err
	}
	e.staging.job = nil
	return nil
}

// settleFrom moves what the question needs from the staging, or from a desk, to the
// job's own sequence.
func (e *Engine) settleFrom(j *job, scratch model.Sequence) error {
	choice := e.choose(j, scratch, j.plan.Keep, true)
	plan := j.plan
	if choice.Keep != nil {
		var err error
		if plan, err = plan.Divide(choice.Keep); err != nil {
			return err
		}
	}
	s, err := e.backend.NewSequence(plan)
	if err != nil {
		return err
	}
	j.sequence = s
	e.backend.Take(s, scratch, choice)
	j.staged = false
	return nil
}
