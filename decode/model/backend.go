package model

import "lessrag/decode/cache"

// Sequence is a running sequence's cache, on the device of the backend that made it.
type Sequence interface {
	Position() int // of the next token
	Plan() cache.Plan
	Held() cache.Held
	Free() error
}

// Work is a block of tokens for one sequence: a block of its prompt or its one
// newest token. The Works of one sequence stand side by side in a batch: consecutive
// blocks of a prompt, which give what they would give one by one. Nothing but the
// last of them asks for a result.
type Work struct {
	Sequence  Sequence
	Tokens    []int32
	Prompt    bool            // the tokens are a prompt's, and are computed as such even where there is one alone
	Logits    bool            // the logits that follow the last token are wanted
	Likeliest int             // or this many of the likeliest tokens, where a device can tell them; 0: all logits
	Heat      float32         // and Likely.Sum, at this temperature
	Question  int             // how many of the last Tokens are the question's; a staging sequence observes their attention
	Probe     bool            // the tokens are forgotten again: only what they attend to, or predict, is wanted
	Targets   []int32         // nil, or the token that truly follows each of Tokens: score them
	Done      <-chan struct{} // nil, or closed when the block is no longer wanted
}

// Result is what one Work gave.
type Result struct {
	Logits    []float32 // [vocab] after the last token, if asked for
	Likely    *Likely   // in place of Logits
	Scores    []Score   // one per target
	Abandoned bool      // Done was closed in time: the sequence is unusable and must be freed
}

// Likely is what a device tells of logits that it keeps.
type Likely struct {
	Tokens []Token                   // the likeliest, falling; of equals the first one first
	Sum    float64                   // Σ exp((logit − the highest) / Heat) over all tokens, to within LikelyError of it; no number where a logit is none
	Vocab  int                       // how many tokens there are
	All    func() ([]float32, error) // the logits, until the next Forward
}

// Token is a token with its logit.
type Token struct {
	ID    int32
	Logit float32
}

// LikelyError is how far Likely.Sum may be off.
const LikelyError = 1e-4

// Score is how well the model predicted one target.
type Score struct {
	NLL  float64 // negative log-likelihood, nats
	Best int32   // the most likely token
}
