package retrieve

import (
	"slices"
	"strings"
	"testing"
)

// TestShares is the measurement behind matchedShare and keptShare: sentences
// that paraphrase one of twelve passages, and sentences that none of them says.
func TestShares(t *testing.T) {
	c := readCorpus(t)
	var passages []Passage
	for i, d := range c.Documents {
		p := passage(d.Name, d.Text, 0)
		p.ID = int64(i + 1)
		passages = append(passages, p)
	}
	e := newEvidence(passages)
	said, found, right, stray, strayKept := 0, 0, 0, 0, 0
	var backed, unbacked []float64
	for _, claim := range c.Claims {
		supports := e.supports(claim.Text)
		best, share := strongest(supports), 0.0
		if best >= 0 {
			share = supports[best].share
		}
		if claim.Source == "" {
			unbacked = append(unbacked, share)
			if share >= matchedShare {
				stray++
				t.Logf("cited though nothing says it: %q (%s, %.2f)", claim.Text, passages[best].Document.Name, share)
			}
			if share >= keptShare {
				strayKept++
			}
			continue
		}
		said++
		backed = append(backed, share)
		if share < matchedShare {
			t.Logf("not cited: %q (%.2f)", claim.Text, share)
			continue
		}
		found++
		if passages[best].Document.Name == claim.Source {
			right++
		} else {
			t.Logf("cited wrongly: %q (%s)", claim.Text, passages[best].Document.Name)
		}
	}
	slices.Sort(backed)
	slices.Sort(unbacked)
	t.Logf("backed: %.2f; not backed: %.2f", backed, unbacked)
	t.Logf("cited %d of %d, %d rightly; of %d that nothing says, %d would be cited and %d kept", found, said, right, len(unbacked), stray, strayKept)
	if 10*found < 9*said || 20*right < 19*found {
		t.Errorf("of %d sentences, %d are cited, %d rightly", said, found, right)
	}
	if 20*stray > len(unbacked) || 5*strayKept > len(unbacked) {
		t.Errorf("of %d sentences that nothing says, %d are cited, and %d would keep a marker", len(unbacked), stray, strayKept)
	}
}

func TestTerms(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		"The cats were running, and a cat ran": "cat run cat ran",
		"Stored, storing, stores, store":       "stor stor stor stor",
		"policies policy classes class status": "policy policy class class status",
		"1,000 tokens cost 3.14 at 5%.":        "1000 token cost 3.14 5",
		"l'été de l’année":                     "été de anné",
		"don't":                                "don",
		"東京は日本":                                "東京 京は は日 日本",
		"x y I":                                "",
		"32GB of 3.":                           "32GB 3",
	} {
		if got := strings.Join(terms(text), " "); got != want {
			t.Errorf("%q: terms %q, want %q", text, got, want)
		}
	}
}

func TestSentences(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "",
		" \n\n ":                                "",
		"One. Two!  Three?":                     "One.|Two!|Three?",
		"Wrapped\nline. Next":                   "Wrapped\nline.|Next",
		"Paragraph\n\nnext":                     "Paragraph|next",
		"Intro:\n- one\n- two\n1. three":        "Intro:|- one|- two|1. three",
		"# Head\nText e.g. this. Dr. Who, v1.2": "# Head\nText e.g. this.|Dr. Who, v1.2",
		`He said "no." Then left.`:              `He said "no."|Then left.`,
		"東京。大阪！":                                "東京。|大阪！",
		"J. Smith and I. Then":                  "J. Smith and I.|Then",
		"Ask etc. and more...":                  "Ask etc. and more...",
	} {
		var got []string
		for _, s := range sentences(text) {
			got = append(got, text[s.start:s.end])
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%q: sentences %q, want %q", text, got, want)
		}
	}
}

func TestParseMarker(t *testing.T) {
	for _, c := range []struct {
		prev     byte
		text     string
		final    bool
		numbers  []int
		ok, wait bool
	}{
		{' ', "[1] x", false, []int{1}, true, false},
		{' ', "  [1, 2;3] x", false, []int{1, 2, 3}, true, false},
		{' ', "[ 12 ]", true, []int{12}, true, false},
		{' ', "[1]", false, nil, false, true},
		{' ', "[1", false, nil, false, true},
		{' ', "[", false, nil, false, true},
		{' ', "[1", true, nil, false, false},
		{' ', "[]x", false, nil, false, false},
		{' ', "[,]x", false, nil, false, false},
		{' ', "[a]", false, nil, false, false},
		{' ', "[1 2] x", false, nil, false, false},
		{' ', "[1](x)", false, nil, false, false},
		{' ', "[1234] x", false, nil, false, false},
		{'r', "[1] x", false, nil, false, false},
		{'r', " [1] x", false, []int{1}, true, false},
		{')', "[1] x", false, []int{1}, true, false},
		{' ', "[" + strings.Repeat(" ", maxMarker+1), false, nil, false, false},
		{' ', "x", false, nil, false, false},
	} {
		m, ok, wait := parseMarker(c.prev, c.text, c.final)
		if ok != c.ok || wait != c.wait || !slices.Equal(m.numbers, c.numbers) {
			t.Errorf("after %q, %q: %v %v %v, want %v %v %v", c.prev, c.text, m.numbers, ok, wait, c.numbers, c.ok, c.wait)
		}
		if ok && !strings.HasPrefix(c.text, m.text) {
			t.Errorf("%q: marker %q", c.text, m.text)
		}
	}
}
