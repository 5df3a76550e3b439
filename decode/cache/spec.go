// Package cache is the memory of a running sequence: what a cache keeps (a
// Policy), how many bytes that takes (a Plan, known before the sequence starts)
// and where it is kept (a Sequence). It decides nothing about attention.
package cache

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The eviction policies that a Spec may name.
const (
	Full      = "full"      // every token, nothing is evicted
	Sinks     = "sinks"     // Λ: four sinks and the most recent tokens, at their original positions
	Streaming = "streaming" // the same tokens, numbered anew
	H2O       = "h2o"       // heavy hitters and the most recent tokens
	TOVA      = "tova"      // what the newest query attends to
	SnapKV    = "snapkv"    // what the question attends to
	Vote      = "vote"      // whole sentences that the heads which find answers agree on

	BUZZ    = "buzz"    // segments with a heavy hitter each
	CORM    = "corm"    // what recent queries found important
	Cascade = "cascade" // sub-caches, each of which takes half as many tokens as the one before
	Elastic = "elastic" // merges what it drops into what it keeps

	ElasticValues = "elastic-values" // merges their values only
)

// policies are all the names that parse, those of later builds included.
var policies = []string{Full, Sinks, Streaming, H2O, TOVA, SnapKV, Vote, BUZZ, CORM, Cascade, Elastic, ElasticValues}

// Policies are the names of all that there are.
func Policies() []string { return slices.Clone(policies) }

// What this build can run: these policies, bounded ones with any of these states.
var (
	available       = policies
	availableStates = []string{"", Less, Moment}
)

// Spec names a cache: an eviction policy and what is composed with it.
// The zero Spec means Full.
type Spec struct {
	Policy string // one of the names above
	State  string // what absorbs evicted tokens: "", "less" or "moment"
	Bits   int    // storage precision of KIVI: 0 (bf16), 2 or 4
	Think  int    // percent of the key channels that ThinK prunes: 0 to mostThink
}

// The shares that ThinK may prune, in percent: of thinkDefault the paper finds no loss.
const (
	thinkDefault = 40
	mostThink    = 90
)

// SpecError tells that a text names no cache.
type SpecError struct {
	Text   string
	Reason string
}

func (e *SpecError) Error() string {
	return fmt.Sprintf("cache %q: %s; the form is policy[+less|+moment][+kivi2|+kivi4][+think|+think1…%d] with policy one of %s",
		e.Text, e.Reason, mostThink, strings.Join(policies, ", "))
}

// UnavailableError tells that a cache is known but that this build cannot run it.
type UnavailableError struct {
	Spec Spec
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("cache %s is not available in this build; available: %s; see docs/caches.md for what composes with them",
		e.Spec, strings.Join(available, ", "))
}

// ParseSpec reads "policy[+less|+moment][+kivi2|+kivi4][+think|+thinkN]", parts in any
// order: N is the percentage of key channels to prune, 40 where none is given. Every known
// name parses; Spec.Available tells whether this build can run it.
func ParseSpec(text string) (Spec, error) {
	fail := func(format string, args ...any) (Spec, error) {
		return Spec{}, &SpecError{Text: text, Reason: fmt.Sprintf(format, args...)}
	}
	policy, rest, composed := strings.Cut(strings.TrimSpace(text), "+")
	if !slices.Contains(policies, policy) {
		return fail("unknown policy %q", policy)
	}
	s := Spec{Policy: policy}
	for composed {
		var part string
		part, rest, composed = strings.Cut(rest, "+")
		switch part {
		case "less", "moment":
			if s.State != "" {
				return fail("one state at most, %s or %s", s.State, part)
			}
			s.State = part
		case "kivi2", "kivi4":
			if s.Bits != 0 {
				return fail("one precision at most, kivi%d or %s", s.Bits, part)
			}
			s.Bits = int(part[4] - '0')
		default:
			percent, ok := parseThink(part)
			switch {
			case !ok:
				return fail("unknown part %q", part)
			case s.Think != 0:
				return fail("one share of channels to prune at most, think%d or %s", s.Think, part)
			}
			s.Think = percent
		}
	}
	if reason := s.conflict(); reason != "" {
		return fail("%s", reason)
	}
	return s, nil
}

// parseThink reads "think" or "thinkN".
func parseThink(part string) (percent int, ok bool) {
	digits, ok := strings.CutPrefix(part, "think")
	if digits == "" {
		return thinkDefault, ok
	}
	percent, err := strconv.Atoi(digits)
	return percent, ok && err == nil && percent >= 1 && percent <= mostThink && digits == strconv.Itoa(percent)
}

// conflict tells which parts of the Spec exclude each other, and why; "" if none do.
func (s Spec) conflict() string {
	switch {
	case !s.Bounded() && s.State != "":
		return fmt.Sprintf("full evicts nothing, so %s has nothing to absorb", s.State)
	case (s.Policy == Elastic || s.Policy == ElasticValues) && s.State != "":
		return fmt.Sprintf("%s merges what it drops into its neighbours, so %s would count it twice", s.Policy, s.State)
	case s.Packs() && (s.Policy == BUZZ || s.Policy == Cascade):
		return fmt.Sprintf("%s turns keys to new positions whenever others leave, and packed keys cannot be turned", s.Policy)
	}
	return ""
}

// Blends tells whether keys and values of passages that were stored earlier may be
// put together into a sequence (CacheBlend); the error says why not.
func (s Spec) Blends() error {
	if s.Policy == Cascade {
		return &SpecError{Text: s.String(), Reason: "cascade reads a prompt chunk by chunk and places every token anew, so stored passages have no place that they would keep in it"}
	}
	return nil
}

// String is the text that ParseSpec reads, its parts in the order of the form.
func (s Spec) String() string {
	text := s.Policy
	if text == "" {
		text = Full
	}
	if s.State != "" {
		text += "+" + s.State
	}
	if s.Bits != 0 {
		text += fmt.Sprintf("+kivi%d", s.Bits)
	}
	if s.Think != 0 {
		text += fmt.Sprintf("+think%d", s.Think)
	}
	return text
}

// Available is nil where this build runs the cache, an *UnavailableError otherwise.
func (s Spec) Available() error {
	policy, _, _ := strings.Cut(s.String(), "+")
	if !slices.Contains(available, policy) || !slices.Contains(availableStates, s.State) ||
		s.Bits != 0 && s.Bits != 2 && s.Bits != 4 || s.Think < 0 || s.Think > mostThink {
		return &UnavailableError{Spec: s}
	}
	return nil
}

// AsksQuestion tells whether the cache must know a question to choose what it
// keeps, so that prompts are staged first: see Chooser.
func (s Spec) AsksQuestion() bool {
	return s.Policy == SnapKV || s.Policy == Vote
}

// Stages tells whether prompts are staged: read into memory that all sequences share,
// whole and in 16 bits, before anything is decided. A cache that asks a question wants to
// have read it; ThinK chooses channels when a prompt has ended; and KIVI rounds a prompt that
// is kept whole only after it has attended to itself.
func (s Spec) Stages() bool {
	return s.AsksQuestion() || s.Think != 0 || s.Bits != 0 && !s.Bounded()
}

// Unlimited tells whether a sequence may run beyond the model's context: its
// policy numbers what it keeps anew.
func (s Spec) Unlimited() bool { return s.renumbers() }

// renumbers tells whether what is kept is numbered anew, without gaps.
func (s Spec) renumbers() bool {
	return s.Policy == Streaming || s.Policy == BUZZ || s.Policy == Cascade
}

// Bounded tells whether the cache evicts, and so whether it needs a budget.
func (s Spec) Bounded() bool {
	return s.Policy != Full && s.Policy != ""
}
