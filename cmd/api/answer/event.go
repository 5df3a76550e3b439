package answer

import "lessrag/retrieve"

// The events of an answer, in the order in which they first come. Deltas and
// citations alternate; a failed run ends with an error event, every other one
// with done.
const (
	EventRetrieval = "retrieval" // Retrieval
	EventDelta     = "delta"     // Delta
	EventCitation  = "citation"  // retrieve.Citation
	EventUsage     = "usage"     // Report
	EventError     = "error"     // Failure
	EventDone      = "done"      // Done
)

// Event is one step of a run. IDs rise by one from 1.
type Event struct {
	ID   int64
	Name string
	Data any
}

// Retrieval tells what the answer will be read from.
type Retrieval struct {
	RunID          string             `json:"run_id"`
	ConversationID string             `json:"conversation_id"`
	Passages       []retrieve.Passage `json:"passages"`
	Given          int                `json:"given,omitempty"`       // of the passages, the first ones: those of earlier turns
	SearchText     string             `json:"search_text,omitempty"` // what was searched for, where not the question itself
	RetrievalMS    float64            `json:"retrieval_ms"`
	Memory         Memory             `json:"memory"` // as planned; usage reports what was held
}

// Delta is the next piece of the answer.
type Delta struct {
	Text string `json:"text"`
}

// Failure ends a run that could not be finished.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Done ends a run.
type Done struct {
	FinishReason string `json:"finish_reason"`
}

// The reasons why an answer ended.
const (
	FinishStop      = "stop"      // the reader had said all
	FinishLength    = "length"    // max_tokens were said
	FinishRefused   = "refused"   // no passage was relevant; the reader was not asked
	FinishCancelled = "cancelled" // the client stopped it, or went away
	FinishError     = "error"     // Record.Error says why
)

// Usage counts tokens.
type Usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	ReusedTokens     int `json:"reused_tokens"`     // of the prompt: known from an earlier one with the same beginning, or with the same passages
	RecomputedTokens int `json:"recomputed_tokens"` // of those of passages: computed anew, in a layer of the model on average
	CompletionTokens int `json:"completion_tokens"`
}

// Timing tells where the time went, in milliseconds.
type Timing struct {
	RetrievalMS     float64 `json:"retrieval_ms"`
	QueueMS         float64 `json:"queue_ms"` // waiting for a slot
	PrefillMS       float64 `json:"prefill_ms"`
	TTFTMS          float64 `json:"ttft_ms"` // from the question to the first token
	DecodeMS        float64 `json:"decode_ms"`
	TokensPerSecond float64 `json:"tokens_per_second"` // while decoding
}

// Memory reports the bytes and tokens of the cache that read the passages.
type Memory struct {
	Cache           string `json:"cache"`
	BudgetBytes     int64  `json:"budget_bytes"`     // the most this sequence could hold
	HeldBytes       int64  `json:"held_bytes"`       // what it held
	FullCacheBytes  int64  `json:"full_cache_bytes"` // what a cache that forgets nothing would have held
	KeptTokens      int    `json:"kept_tokens"`
	AbsorbedTokens  int    `json:"absorbed_tokens"`
	EvictedTokens   int    `json:"evicted_tokens"`
	StateNote       string `json:"state_note,omitempty"` // states that the cache asks for and went without, and why
	DroppedPassages int    `json:"dropped_passages"`     // found, but past the token budget of the prompt
}

// Report is the account of a run.
type Report struct {
	Usage  Usage  `json:"usage"`
	Timing Timing `json:"timing"`
	Memory Memory `json:"memory"`
}

// Record is a whole run: the body of POST /api/v1/chat, and what is stored.
type Record struct {
	RunID          string              `json:"run_id"`
	ConversationID string              `json:"conversation_id"`
	Question       string              `json:"question"`
	SearchText     string              `json:"search_text,omitempty"` // what was searched for, where not the question itself
	Collection     string              `json:"collection"`
	Answer         string              `json:"answer"`
	Citations      []retrieve.Citation `json:"citations"`
	Passages       []retrieve.Passage  `json:"passages"`
	Given          int                 `json:"given,omitempty"` // of the passages, the first ones: those of earlier turns
	Report
	FinishReason string   `json:"finish_reason"` // "" while it runs
	Error        *Failure `json:"error,omitempty"`
}
