package eval

import (
	"fmt"
	"strconv"
	"strings"

	"lessrag/decode"
	"lessrag/decode/cache"
)

// Entry is one cache with its budget.
type Entry struct {
	Text   string
	Spec   cache.Spec
	share  float64 // of the prompt's tokens; 0: tokens
	tokens int     // for each KV head; 0: share, or everything where that is 0 too
}

// AllCaches are what --caches all stands for: the largest first.
var AllCaches = []string{"full", "full+think", "full+kivi4", "full+kivi4+think", "full+kivi2", "full+kivi2+think",
	"vote+kivi4@10%", "vote@10%", "snapkv+kivi4@10%", "snapkv@10%", "tova@10%", "h2o+less+kivi4+think@10%", "h2o+kivi4@10%", "h2o+less@10%", "h2o@10%",
	"buzz@10%", "corm@10%", "cascade@10%", "elastic@10%", "elastic-values@10%",
	"sinks+kivi4@10%", "sinks+moment@10%", "sinks+less@10%", "sinks@10%", "streaming@10%"}

// ParseEntry reads cache@budget.
func ParseEntry(text string) (Entry, error) {
	name, budget, bounded := strings.Cut(text, "@")
	spec, err := cache.ParseSpec(name)
	if err != nil {
		return Entry{}, err
	}
	if err := spec.Available(); err != nil {
		return Entry{}, err
	}
	e := Entry{Text: text, Spec: spec}
	if bounded != spec.Bounded() {
		return Entry{}, fmt.Errorf("%q: a bounded cache, and no other, has a budget after @", text)
	}
	if !bounded {
		return e, nil
	}
	if percent, ok := strings.CutSuffix(budget, "%"); ok {
		e.share, err = strconv.ParseFloat(percent, 64)
		e.share /= 100
	} else {
		e.tokens, err = strconv.Atoi(budget)
	}
	if err != nil || !(e.share > 0 && e.share <= 1) && e.tokens < 1 {
		return Entry{}, fmt.Errorf("%q: the budget is a share of the prompt (10%%) or a number of tokens", text)
	}
	return e, nil
}

// Budget is what the cache gets beside a prompt: the bytes that plain keys and
// values of so many tokens take, so that all caches with one budget get the same.
func (e Entry) Budget(engine *decode.Engine, prompt int) (cache.Budget, error) {
	if !e.Spec.Bounded() {
		return cache.Budget{}, nil
	}
	tokens := e.tokens
	if tokens == 0 {
		tokens = int(e.share * float64(prompt))
	}
	plan, err := engine.Plan(cache.Spec{Policy: cache.Sinks}, cache.Budget{Tokens: tokens})
	return cache.Budget{Bytes: plan.Bytes}, err
}
