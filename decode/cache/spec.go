// Package cache is the memory of a running sequence: what a cache keeps (a
// Policy), how many bytes that takes (a Plan, known before the sequence starts)
// and where it is kept (a Sequence). It decides nothing about attention.
package cache

import (
	"fmt"
	"slices"
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
)

// policies are all the names that parse, those of later builds included.
var policies = []string{Full, Sinks, Streaming, H2O, TOVA, SnapKV, Vote, "buzz", "corm", "cascade", "elastic"}

// What this build can run: these policies, bounded ones with any of these states.
var (
	available       = []string{Full, Sinks, Streaming, H2O, TOVA, SnapKV, Vote}
	availableStates = []string{"", Less, Moment}
)

// Spec names a cache: an eviction policy and what is composed with it.
// The zero Spec means Full.
type Spec struct {
	Policy string // one of the names above
	State  string // what absorbs evicted tokens: "", "less" or "moment"
	Bits   int    // storage precision of KIVI: 0 (bf16), 2 or 4
	Think  int    // percent of the key channels that ThinK prunes: 0 or 40
}

// SpecError tells that a text names no cache.
type SpecError struct {
	Text   string
	Reason string
}

func (e *SpecError) Error() string {
	return fmt.Sprintf("cache %q: %s; the form is policy[+less|+moment][+kivi2|+kivi4][+think40] with policy one of %s",
		e.Text, e.Reason, strings.Join(policies, ", "))
}

// UnavailableError tells that a cache is known but that this build cannot run it.
type UnavailableError struct {
	Spec Spec
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("cache %s is not available in this build; available: %s, and but for full each with +less or +moment",
		e.Spec, strings.Join(available, ", "))
}

// ParseSpec reads "policy[+less|+moment][+kivi2|+kivi4][+think40]". Every known
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
		case "think40":
			if s.Think != 0 {
				return fail("%s appears twice", part)
			}
			s.Think = 40
		default:
			return fail("unknown part %q", part)
		}
	}
	switch {
	case s.Policy == Full && s.State != "":
		return fail("full evicts nothing, so %s has nothing to absorb", s.State)
	case s.Policy == "elastic" && s.State != "":
		return fail("elastic merges what it drops, so %s would count it twice", s.State)
	}
	return s, nil
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
	if !slices.Contains(available, policy) || !slices.Contains(availableStates, s.State) || s.Bits != 0 || s.Think != 0 {
		return &UnavailableError{Spec: s}
	}
	return nil
}

// AsksQuestion tells whether the cache must know a question to choose what it
// keeps, so that prompts are staged first: see Chooser.
func (s Spec) AsksQuestion() bool {
	return s.Policy == SnapKV || s.Policy == Vote
}

// Unlimited tells whether a sequence may run beyond the model's context: its
// policy numbers what it keeps anew.
func (s Spec) Unlimited() bool { return s.Policy == Streaming }

// Bounded tells whether the cache evicts, and so whether it needs a budget.
func (s Spec) Bounded() bool {
	return s.Policy != Full && s.Policy != ""
}
