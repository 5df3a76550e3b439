package answer

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/retrieve"
)

// MaxQuestionBytes is the longest question that is taken.
const MaxQuestionBytes = retrieve.MaxQueryBytes

// maxCollectionBytes is the longest name of a collection.
const maxCollectionBytes = 256

// maxTemperature is where sampling is uniform for all that matters.
const maxTemperature = 5

// Question is what a client asks. Zero values, and nil pointers, mean the
// service's defaults.
type Question struct {
	Text           string
	Collection     string
	ConversationID string // continues that conversation; "" starts one
	Cache          string // cache.Spec as text: "full", "sinks", …
	Budget         string // cache.Budget as text: "10%", "512", "16MiB"
	Limit          int    // passages to search for
	MaxTokens      int    // of the answer
	Temperature    *float64
	TopP           *float64
	Seed           *int64
}

// Defaults stand in for what a question leaves out.
type Defaults struct {
	Collection    string
	Cache         string
	Budget        string
	Limit         int             // passages to search for
	ContextTokens int             // for the passages in the prompt; 0: what the model's context leaves
	HistoryTokens int             // for earlier turns of the conversation; 0: the model's context
	MaxTokens     int             // of an answer
	MinSimilarity float64         // below which no passage is taken as an answer
	Sampling      decode.Sampling // temperature, top-p and what requests cannot set
}

// plan is a checked question: everything decode and retrieve need to know.
type plan struct {
	text, collection string
	limit, maxTokens int
	context          int // tokens for the passages
	room             int // tokens for prompt and answer together
	spec             cache.Spec
	budget           cache.Budget
	sampling         decode.Sampling
	memory           Memory // what is known before anything ran

	conversation, run string // ids
	turns             []retrieve.Turn
}

// FieldError names one field of a question and what is wrong with it.
type FieldError struct{ Field, Message string }

// InvalidError refuses a question; every bad field is named.
type InvalidError struct{ Fields []FieldError }

func (e *InvalidError) Error() string {
	all := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		all[i] = f.Field + " " + f.Message
	}
	return strings.Join(all, "; ")
}

// reader is what a question has to fit: the model's context, and its caches.
type reader struct {
	context int // tokens
	memory  int64
	tokens  retrieve.TokenCounter
	plan    func(cache.Spec, cache.Budget) (cache.Plan, error)
}

// check applies the defaults and looks at every field. It is pure.
func (d Defaults) check(q Question, r reader) (plan, error) {
	var bad []FieldError
	refuse := func(field, format string, args ...any) {
		bad = append(bad, FieldError{field, fmt.Sprintf(format, args...)})
	}
	p := plan{
		text:       strings.TrimSpace(q.Text),
		collection: cmp.Or(q.Collection, d.Collection),
		limit:      cmp.Or(q.Limit, d.Limit),
		maxTokens:  cmp.Or(q.MaxTokens, d.MaxTokens),
		context:    d.ContextTokens,
		sampling:   d.Sampling,
	}
	switch {
	case !utf8.ValidString(q.Text):
		refuse("question", "must be valid UTF-8")
	case strings.ContainsRune(q.Text, 0):
		refuse("question", "must not contain NUL")
	case p.text == "":
		refuse("question", "must not be empty")
	case len(q.Text) > MaxQuestionBytes:
		refuse("question", "must be at most %d bytes, has %d", MaxQuestionBytes, len(q.Text))
	}
	switch {
	case p.collection == "":
		refuse("collection", "must be given: there is no default collection")
	case !utf8.ValidString(p.collection) || strings.ContainsRune(p.collection, 0) || len(p.collection) > maxCollectionBytes:
		refuse("collection", "must be a name of at most %d bytes of UTF-8 without NUL", maxCollectionBytes)
	}
	if p.limit < 1 || p.limit > retrieve.MaxLimit {
		refuse("limit", "must be 1 to %d, is %d", retrieve.MaxLimit, p.limit)
	}
	if !(d.MinSimilarity >= -1 && d.MinSimilarity <= 1) {
		refuse("min_similarity", "must be -1 to 1, is %v", d.MinSimilarity)
	}
	if d.ContextTokens < 0 {
		refuse("context_tokens", "must be 0 or more, is %d", d.ContextTokens)
	}
	if p.maxTokens < 1 || p.maxTokens >= r.context {
		refuse("max_tokens", "must be 1 to %d for this model, is %d", r.context-1, p.maxTokens)
	}
	if t := q.Temperature; t != nil {
		if !(*t >= 0 && *t <= maxTemperature) {
			refuse("temperature", "must be 0 to %d, is %v", maxTemperature, *t)
		}
		p.sampling.Temperature = float32(*t)
	}
	if t := q.TopP; t != nil {
		if !(*t > 0 && *t <= 1) {
			refuse("top_p", "must be above 0 and at most 1, is %v", *t)
		}
		p.sampling.TopP = float32(*t)
	}
	if s := q.Seed; s != nil {
		if *s < 0 {
			refuse("seed", "must be 0 to %d, is %d", int64(math.MaxInt64), *s)
		}
		p.sampling.Seed = uint64(*s)
	}
	p.cache(cmp.Or(q.Cache, d.Cache), q.Budget, d.Budget, r, refuse)
	if len(bad) == 0 {
		p.fit(r.tokens, refuse)
	}
	if len(bad) > 0 {
		return plan{}, &InvalidError{bad}
	}
	return p, nil
}

// cache reads the cache and its budget. The default budget is for caches that
// are bounded: a full one without a budget takes what the prompt needs.
func (p *plan) cache(spec, budget, fallback string, r reader, refuse func(field, format string, args ...any)) {
	var err error
	if p.spec, err = cache.ParseSpec(spec); err != nil {
		refuse("cache", "%v", err)
		return
	}
	if budget == "" && p.spec.Bounded() {
		budget = fallback
	}
	if budget != "" {
		if p.budget, err = cache.ParseBudget(budget); err != nil {
			refuse("budget", "%v", err)
			return
		}
	}
	bounded, err := r.plan(p.spec, p.budget)
	var unavailable *cache.UnavailableError
	switch {
	case errors.As(err, &unavailable):
		refuse("cache", "%v", err)
		return
	case err != nil:
		refuse("budget", "%v", err)
		return
	}
	p.memory.Cache, p.room = p.spec.String(), r.context
	if p.budget.IsZero() && !p.spec.Bounded() {
		return // the prompt decides: see Service.answer
	}
	p.memory.BudgetBytes = bounded.Bytes
	if bounded.Bytes > r.memory {
		refuse("budget", "takes %d bytes for one answer, and the server has %d for all", bounded.Bytes, r.memory)
	}
	if !p.spec.Bounded() {
		p.room = bounded.Keep
	}
}

// fit makes room for the answer and the question, and leaves at most the rest
// to the passages.
func (p *plan) fit(tokens retrieve.TokenCounter, refuse func(field, format string, args ...any)) {
	const scaffold = 128 // the system message and the template's own tokens
	question := tokens.Count(p.text)
	left := p.room - p.maxTokens - scaffold - question
	if left < 0 {
		refuse("question", "has %d tokens, which with %d for the answer and %d for the instructions do not fit into %d",
			question, p.maxTokens, scaffold, p.room)
		return
	}
	if p.context == 0 {
		p.context = left
	}
	p.context = min(p.context, left)
}
