// Package decode turns prompt tokens into text: an Engine runs many sequences at
// once over one model, each with a cache whose bytes are known before it starts.
package decode

import (
	"time"

	"lessrag/decode/cache"
	"lessrag/decode/model"
)

// Why a sequence ended.
const (
	FinishStop      = "stop"      // an end token or a stop string
	FinishLength    = "length"    // MaxTokens, or no room left in the context or in a full cache
	FinishCancelled = "cancelled" // the caller's context ended
)

// DefaultMaxTokens is how many tokens a Request may produce that does not say.
const DefaultMaxTokens = 512

// Request is one sequence to run.
type Request struct {
	Prompt    []int32      // token ids, at least one
	Cache     cache.Spec   // zero: full
	Budget    cache.Budget // zero: for full what prompt and answer need, otherwise cache.DefaultPercent of the context
	Question  int          // how many of the last prompt tokens are the question: the last turn and what the template adds; 0: unknown
	MaxTokens int          // tokens to produce at most; 0: DefaultMaxTokens
	Blend     *Blend       // nil, or which parts of the prompt are passages that may be known from other prompts
	Force     []int32      // tokens to produce in place of chosen ones, to learn how likely they are: Result.Scores; MaxTokens and end tokens mean nothing then
	IgnoreEnd bool         // an end token is like any other: to time a given number of tokens
	Stop      []string     // texts that end the answer and are not part of it
	Sampling  Sampling
}

// Chunk is a piece of an answer. Text pieces join to Result.Text. The last chunk
// has a Result or an Err, and may have Text as well.
type Chunk struct {
	Text      string
	Prefilled int // prompt tokens done so far, while prefilling
	Result    *Result
	Err       error
}

// Result is how a sequence ended.
type Result struct {
	Text             string
	Tokens           []int32 // produced, the end token not included
	FinishReason     string
	PromptTokens     int
	ReusedTokens     int // of the prompt: taken from what an earlier one with the same beginning had left, or from stored passages
	RecomputedTokens int // of the reused tokens of passages: computed anew, in a layer on average
	CompletionTokens int
	Scores           []model.Score // of the Request's Force, one for each

	Queue   time.Duration // waiting for a slot
	Prefill time.Duration // from the slot to the end of the prompt
	TTFT    time.Duration // from Submit to the first token
	Decode  time.Duration // from the first token to the last

	Memory Memory
}

// Memory is what a sequence's cache was allowed and what it held in the end.
type Memory struct {
	Cache          string
	BudgetBytes    int64 // the Plan's, exactly
	HeldBytes      int64 // in use at the end
	FullCacheBytes int64 // what a full cache of the same tokens holds
	KeptTokens     int   // means over the KV heads
	AbsorbedTokens int
	EvictedTokens  int
	StateNote      string // states that the cache asks for and went without, and why; "" where it did not
}
