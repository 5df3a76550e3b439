package retrieve

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// evidencePassages are what the tests' answers are read from.
var evidencePassages = []Passage{
	{ID: 101, Start: 1000, Text: "The cache holds 32 bytes for every token. It evicts the oldest token\nfirst, and keeps four sinks."},
	{ID: 102, Start: 2000, Text: "Whales dive deep and sing to each other for hours.\n\nA blue whale weighs 150 tonnes."},
	{ID: 103, Start: 3000, Text: "東京は日本の首都です。人口は多い。"},
}

// cite runs an answer through a Citer, cut at the given places.
func cite(passages []Passage, answer string, cuts ...int) (string, []Citation) {
	c := NewCiter(passages)
	var out strings.Builder
	var all []Citation
	from := 0
	push := func(text string, cites []Citation) {
		out.WriteString(text)
		for _, cite := range cites {
			if cite.End > out.Len() {
				panic(fmt.Sprintf("citation to %d of %d bytes shown", cite.End, out.Len()))
			}
		}
		all = append(all, cites...)
	}
	for _, cut := range append(cuts, len(answer)) {
		push(c.Push(answer[from:cut]))
		from = cut
	}
	push(c.Flush())
	return out.String(), all
}

func TestCite(t *testing.T) {
	for _, c := range []struct{ name, answer, want string }{
		{"nothing", "", ""},
		{"no sentence", "\n\n  ", "\n\n  "},
		{"the reader's, before the full stop", "It holds 32 bytes for a token [1].", "It holds 32 bytes for a token [1]."},
		{"the reader's, behind the full stop", "It holds 32 bytes for a token. [1] Whales sing for hours. [2]\n", "It holds 32 bytes for a token. [1] Whales sing for hours. [2]\n"},
		{"the reader's, close behind", "The cache holds 32 bytes.[1] Then more.", "The cache holds 32 bytes.[1] Then more."},
		{"the reader's, inside", "As in [1], the cache evicts the oldest token.", "As in [1], the cache evicts the oldest token."},
		{"the reader's, first", "[1] The cache evicts the oldest token.", "[1] The cache evicts the oldest token."},
		{"the wrong one", "Whales sing to each other [1].", "Whales sing to each other [2]."},
		{"one of two", "Whales sing to each other [1, 2].", "Whales sing to each other [2]."},
		{"the same twice", "Whales sing [2] to each other [2].", "Whales sing [2] to each other."},
		{"out of range, backed elsewhere", "Whales sing to each other [9].", "Whales sing to each other [2]."},
		{"out of range, backed nowhere", "Bananas are yellow [9], as everyone [0] knows [12].", "Bananas are yellow, as everyone knows."},
		{"in range, backed nowhere", "Bananas are yellow [1].", "Bananas are yellow."},
		{"first and backed nowhere", "[1] Bananas are yellow.", "Bananas are yellow."},
		{"only a marker", "[1]", ""},
		{"none, backed", "The cache evicts the oldest token first.", "The cache evicts the oldest token first [1]."},
		{"none, backed, quoted", `"The cache evicts the oldest token first." And so on.`, `"The cache evicts the oldest token first [1]." And so on.`},
		{"none, inflected", "Evicting the oldest tokens first", "Evicting the oldest tokens first [1]"},
		{"none, half backed", "The cache was painted green by the gardener yesterday.", "The cache was painted green by the gardener yesterday."},
		{"another number", "The cache holds 64 bytes for every token.", "The cache holds 64 bytes for every token."},
		{"another number, claimed", "The cache holds 64 bytes for every token [1].", "The cache holds 64 bytes for every token."},
		{"two sentences needed", "A blue whale weighs 150 tonnes and sings for hours.", "A blue whale weighs 150 tonnes and sings for hours [2]."},
		{"one word, cut off", "Whales sing to each other for hours. Tonnes", "Whales sing to each other for hours [2]. Tonnes"},
		{"one word, whole", "Whales.", "Whales [2]."},
		{"one number", "The answer is: 150", "The answer is: 150 [2]"},
		{"question", "Whales sing to each other?", "Whales sing to each other?"},
		{"intro", "Whales sing to each other:", "Whales sing to each other:"},
		{"heading", "# Whales sing to each other\n", "# Whales sing to each other\n"},
		{"table", "| Whales sing | to each other |\n", "| Whales sing | to each other |\n"},
		{"list", "- Whales sing to each other\n- The cache holds 32 bytes\n", "- Whales sing to each other [2]\n- The cache holds 32 bytes [1]\n"},
		{"numbered list", "1. Whales sing to each other.\n2. The cache holds 32 bytes.", "1. Whales sing to each other [2].\n2. The cache holds 32 bytes [1]."},
		{"wrapped line", "Whales dive deep and\nsing to each other.", "Whales dive deep and\nsing to each other [2]."},
		{"hard break", "Whales sing to each other  \nOr do they?", "Whales sing to each other [2]  \nOr do they?"},
		{"spaces at the end", "Whales sing to each other  ", "Whales sing to each other [2]  "},
		{"abbreviation", "Some whales, e.g. the blue whale, sing to each other for hours.", "Some whales, e.g. the blue whale, sing to each other for hours [2]."},
		{"decimal", "Whales sing 3.5 hours to each other [2].", "Whales sing 3.5 hours to each other."},
		{"index", "Whales sing to arr[1] each other for hours.", "Whales sing to arr[1] each other for hours [2]."},
		{"link", "Whales sing to [1](https://x.example) each other.", "Whales sing to [1](https://x.example) each other [2]."},
		{"year", "Whales sing to each other [2024].", "Whales sing to each other [2024] [2]."},
		{"code span", "Whales sing to `each [9]` other.", "Whales sing to `each [9]` other [2]."},
		{"code span of two", "Whales sing ``to ` each [9]`` other.", "Whales sing ``to ` each [9]`` other [2]."},
		{"fence", "```go\nwhales[9] sing to each other. [9]\n```\nWhales sing to each other.", "```go\nwhales[9] sing to each other. [9]\n```\nWhales sing to each other [2]."},
		{"fence of tildes", "~~~~\nx [9]\n~~~\n```\n~~~~\nx [9]", "~~~~\nx [9]\n~~~\n```\n~~~~\nx"},
		{"open fence", "```\nWhales sing to each other. [9]", "```\nWhales sing to each other. [9]"},
		{"no fence", "```x [9]``` whales sing to each other", "```x [9]``` whales sing to each other [2]"},
		{"partial", "Whales sing to each other [2", "Whales sing to each other [2 [2]"},
		{"ideographs", "東京は日本の首都です。とても広い。", "東京は日本の首都です [3]。とても広い。"},
		{"broken UTF-8", "\xff Whales sing to each other \xe3\x80", "\xff Whales sing to each other \xe3\x80 [2]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, cites := cite(evidencePassages, c.answer)
			if got != c.want {
				t.Errorf("%q becomes\n%q, want\n%q", c.answer, got, c.want)
			}
			checkCitations(t, evidencePassages, got, cites)
		})
	}
}

// TestCitation holds one citation of each origin to its whole content.
func TestCitation(t *testing.T) {
	answer, cites := cite(evidencePassages, "Well. It evicts the oldest token. Whales sing for hours. [2] Bye")
	want := []Citation{
		{1, 101, 6, 37, 1042, 1000 + len(evidencePassages[0].Text), "It evicts the oldest token\nfirst, and keeps four sinks.", Matched},
		{2, 102, 38, 60, 2000, 2050, "Whales dive deep and sing to each other for hours.", FromModel},
	}
	if len(cites) != 2 || cites[0] != want[0] || cites[1] != want[1] {
		t.Errorf("%q: got %+v, want %+v", answer, cites, want)
	}
	if s := answer[cites[0].Start:cites[0].End]; s != "It evicts the oldest token [1]." {
		t.Errorf("the first cited sentence is %q", s)
	}
	if s := answer[cites[1].Start:cites[1].End]; s != "Whales sing for hours." {
		t.Errorf("the second cited sentence is %q", s)
	}
}

func TestCiteWithoutPassages(t *testing.T) {
	if got, cites := cite(nil, "Whales sing [1]. They do. [2]"); got != "Whales sing. They do." || cites != nil {
		t.Errorf("got %q %v", got, cites)
	}
}

// TestCiteStreams holds what is shown after each word of a sentence.
func TestCiteStreams(t *testing.T) {
	c := NewCiter(evidencePassages)
	for _, step := range []struct{ push, want string }{
		{"Whales", "Whales"}, {" sing", " sing"}, {" to each other", " to each other"}, {" ", ""}, {"[", ""}, {"2", ""}, {"]", ""},
		{".", ""}, {" ", ""}, {"The", " [2]. The"}, {" cache", " cache"}, {" holds 32 bytes", " holds 32 bytes"}, {".", ""}, {"\n", ""}, {"\n", " [1].\n"}, {"A", "\nA"},
	} {
		if got, _ := c.Push(step.push); got != step.want {
			t.Fatalf("after %q: %q is shown, want %q", step.push, got, step.want)
		}
	}
}

// checkCitations holds what must be true of any answer: sentences lie in it
// and hold or precede their marker, quotes lie in their passage.
func checkCitations(t *testing.T, passages []Passage, answer string, cites []Citation) {
	t.Helper()
	for _, c := range cites {
		if c.Marker < 1 || c.Marker > len(passages) || c.Start < 0 || c.Start >= c.End || c.End > len(answer) {
			t.Fatalf("%q: citation out of range: %+v", answer, c)
		}
		p := passages[c.Marker-1]
		if c.PassageID != p.ID || c.QuoteStart < p.Start || c.QuoteStart >= c.QuoteEnd || c.QuoteEnd > p.Start+len(p.Text) {
			t.Fatalf("%q: quote outside of its passage: %+v", answer, c)
		}
		if i := strings.Index(answer[c.Start:], fmt.Sprintf("[%d]", c.Marker)); i < 0 {
			t.Fatalf("%q: no marker for %+v", answer, c)
		}
	}
}

// markers and the blanks before them: what an answer may gain or lose.
var markers = regexp.MustCompile(`[ \t]*\[[0-9 ,;]*\]`)

// skeleton is an answer without markers and white space.
func skeleton(s string) string {
	for {
		stripped := markers.ReplaceAllString(s, "")
		if stripped == s {
			return strings.Join(strings.Fields(s), "")
		}
		s = stripped
	}
}

// checkAnswer holds the two laws of a Citer for one answer.
func checkAnswer(t *testing.T, answer string, r *rand.Rand) {
	t.Helper()
	got, cites := cite(evidencePassages, answer)
	checkCitations(t, evidencePassages, got, cites)
	if skeleton(got) != skeleton(answer) {
		t.Fatalf("%q becomes %q: more than markers differs", answer, got)
	}
	for range 4 {
		var cuts []int
		for i := range len(answer) + 1 {
			if r.IntN(3) == 0 {
				cuts = append(cuts, i)
			}
		}
		again, citesAgain := cite(evidencePassages, answer, cuts...)
		if again != got {
			t.Fatalf("%q cut at %v:\n%q, in one piece\n%q", answer, cuts, again, got)
		}
		if fmt.Sprint(citesAgain) != fmt.Sprint(cites) {
			t.Fatalf("%q cut at %v: citations %v, in one piece %v", answer, cuts, citesAgain, cites)
		}
	}
}

// TestCiteAnyCut composes answers of what matters and cuts them at random.
func TestCiteAnyCut(t *testing.T) {
	parts := []string{
		"Whales sing to each other", "the cache holds 32 bytes", "Bananas are yellow", "東京は日本の首都です", "é", "\xe3", "x", "I",
		" ", "  ", "\t", "\n", "\n\n", "\r\n", ".", ".", "?", "!", "…", "。", ":", ",", `."`, "e.g.", "1.", "- ", "# ", "| ",
		" [1]", "[2]", " [2]", "[1, 2]", "[ 3 ]", "[9]", "[", "]", "[1", "(", "[1](", "arr[1]", "[2024]",
		"`", "``", "```", "```\n", "~~~\n", "```go\n", strings.Repeat(" ", 40), strings.Repeat("word ", 500),
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		var answer strings.Builder
		for range 1 + r.IntN(14) {
			answer.WriteString(parts[r.IntN(len(parts))])
		}
		checkAnswer(t, answer.String(), r)
	}
}

func FuzzCite(f *testing.F) {
	for _, answer := range []string{
		"Whales sing to each other [2]. The cache holds 32 bytes.", "```\n[1]\n```\n`x` [1, 2]\n", "arr[1] [1](x) [2024] [[1]]", "a.\n\n[1] b? [2", "東京は日本の首都です。[3]",
	} {
		f.Add(answer, uint64(1))
	}
	f.Fuzz(func(t *testing.T, answer string, seed uint64) {
		if len(answer) > 4<<10 {
			t.Skip("longer answers take too long")
		}
		checkAnswer(t, answer, rand.New(rand.NewPCG(seed, 5)))
	})
}
