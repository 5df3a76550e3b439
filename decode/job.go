package decode

import (
	"context"
	"math"
	"slices"
	"time"

	"lessrag/decode/cache"
	"lessrag/decode/model"
	"lessrag/lesskernels"
)

// job is a Request on its way: waiting, then fed its prompt, then decoding.
type job struct {
	ctx       context.Context
	prompt    []int32
	question  int  // of its last tokens; 0: unknown
	staged    bool // the prompt waits in the staging: for its question, or for its end
	maxTokens int
	force     []int32       // what is produced, whatever is likely
	scores    []model.Score // of force, so far
	ignoreEnd bool
	plan      cache.Plan
	sampler   *Sampler
	text      textStream
	out       outbox
	unwatch   func() bool // stops waking the engine when ctx ends

	sequence   model.Sequence // nil while waiting, and while its prompt is staged
	fed        int            // prompt tokens
	reused     int            // of them, from a kept prefix or stored passages
	blend      *blending      // nil where nothing is blended
	recomputed int            // of the reused tokens, how many were computed anew
	keepAt     []int          // where the cache is copied: see keepPoints
	read       model.Sequence // what the prompt was last fed to: its own sequence, or the staging
	passed     int            // passes that fed other prompts since this one was fed
	tokens     []int32        // produced; the last one is fed next
	written    []byte         // text sent

	submitted, admitted, prefilled, first, last time.Time
}

// task is what the Scheduler sees.
func (j *job) task(e *Engine) Task {
	t := Task{Prompt: len(j.prompt) - j.fed, Fed: j.fed, Slots: slices.Max(j.plan.Slots), Passed: j.passed, Staged: j.staged}
	if !j.plan.Spec.Bounded() && !j.plan.Spec.Packs() {
		t.Joins = t.Prompt
	}
	t.Chains = t.Prompt
	if len(j.keepAt) > 0 {
		t.Chains = min(t.Prompt, j.keepAt[0]-j.fed) // to be copied there
	}
	if j.staged && t.Prompt > 0 {
		t.Chains = 0
		t.Slots = e.options.StagingTokens
		if len(j.prompt) <= t.Slots {
			t.Joins = t.Prompt - j.asked(e.options)
		}
		if !j.asks() && cache.NewPolicy(j.plan.Spec).Observes().Rows != cache.NoRows {
			t.Joins = 0
		}
		t.Probe = e.staging.probe(j, e.scheduler.Tokens(t), e.options)
	}
	return t
}

// work is the block of n tokens for the job's own sequence that comes after the next
// ahead ones.
func (j *job) work(ahead, n int) model.Work {
	w := model.Work{Sequence: j.sequence, Done: j.ctx.Done()}
	from := j.fed + ahead
	if left := len(j.prompt) - from; left > 0 {
		w.Tokens, w.Prompt = j.prompt[from:from+n], true
		j.ask(&w, n == left)
		return w
	}
	w.Tokens = j.tokens[len(j.tokens)-1:]
	j.ask(&w, true)
	return w
}

// ask asks for what next needs.
func (j *job) ask(w *model.Work, logits bool) {
	if w.Logits = logits; logits && len(j.force) == 0 {
		w.Likeliest, w.Heat = j.sampler.Wants()
	}
}

// next is the token that follows, chosen or forced.
func (j *job) next(r model.Result) (int32, error) {
	logits := r.Logits
	if r.Likely != nil {
		token, settled, err := j.sampler.Choose(r.Likely)
		if settled || err != nil {
			return token, err
		}
		if logits, err = r.Likely.All(); err != nil {
			return 0, err
		}
	}
	if len(j.force) == 0 {
		return j.sampler.Next(logits)
	}
	forced := j.force[len(j.tokens)]
	score := model.NewScore(logits, forced)
	if math.IsNaN(score.NLL) || math.IsInf(score.NLL, 0) {
		return 0, ErrNotFinite
	}
	j.scores = append(j.scores, score)
	return forced, nil
}

// write sends text to the reader.
func (j *job) write(text string) {
	j.written = append(j.written, text...)
	j.out.text(text)
}

// result sums the job up; maps are those in use, nil for none. It is called before its sequence is freed.
func (j *job) result(reason string, maps *lesskernels.Header) *Result {
	r := &Result{
		Text: string(j.written), Tokens: j.tokens, FinishReason: reason,
		PromptTokens: len(j.prompt), ReusedTokens: j.reused, RecomputedTokens: j.recomputed, CompletionTokens: len(j.tokens), Scores: j.scores,
		Queue:   between(j.submitted, j.admitted),
		Prefill: between(j.admitted, j.prefilled),
		TTFT:    between(j.submitted, j.first),
		Decode:  between(j.first, j.last),
		Memory:  Memory{Cache: j.plan.Spec.String(), BudgetBytes: j.plan.Bytes},
	}
	if j.sequence != nil {
		held := j.sequence.Held()
		r.Memory.HeldBytes = held.Bytes
		r.Memory.FullCacheBytes = j.plan.FullBytes(j.sequence.Position())
		r.Memory.KeptTokens = held.Kept
		r.Memory.AbsorbedTokens = held.Absorbed
		r.Memory.EvictedTokens = held.Evicted
		r.Memory.StateNote = stateNote(maps, j.plan, j.sequence.Position())
	}
	return r
}

// between is zero unless both moments have come.
func between(from, to time.Time) time.Duration {
	if from.IsZero() || to.IsZero() {
		return 0
	}
	return to.Sub(from)
}
