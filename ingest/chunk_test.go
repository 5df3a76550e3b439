package ingest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"lessrag/ingest/extract"
)

// wordCounter counts words: additive over sentences, blind to long ones.
type wordCounter struct{}

func (wordCounter) Count(s string) int { return len(strings.Fields(s)) }

// byteCounter counts a token for every four bytes begun, spaces included, so that nothing escapes the limit.
type byteCounter struct{}

func (byteCounter) Count(s string) int { return (len(s) + 3) / 4 }

var testSizes = chunkSizes{target: 40, max: 56, overlap: 8}

// checkChunks asserts what holds for every text.
func checkChunks(t *testing.T, d extract.Document, c TokenCounter, s chunkSizes) []Chunk {
	t.Helper()
	chunks := chunkDocument(d, c, s)
	covered := 0 // everything before it is in a passage or is space
	for i, chunk := range chunks {
		if chunk.Start < 0 || chunk.End > len(d.Text) || chunk.Start >= chunk.End {
			t.Fatalf("passage %d is [%d,%d) of %d bytes", i, chunk.Start, chunk.End, len(d.Text))
		}
		if chunk.Text != d.Text[chunk.Start:chunk.End] {
			t.Fatalf("passage %d is not the text at its offsets", i)
		}
		if utf8.ValidString(d.Text) && !utf8.ValidString(chunk.Text) {
			t.Fatalf("passage %d cuts a character: %q", i, chunk.Text)
		}
		if n := c.Count(chunk.Text); chunk.Tokens != n {
			t.Fatalf("passage %d says %d tokens and has %d", i, chunk.Tokens, n)
		}
		if chunk.Tokens > s.max && utf8.RuneCountInString(chunk.Text) > 1 {
			t.Fatalf("passage %d has %d tokens, at most %d are allowed: %q", i, chunk.Tokens, s.max, chunk.Text)
		}
		if chunk.HeadingPath == nil {
			t.Fatalf("passage %d has no heading path", i)
		}
		if i > 0 && chunk.Start <= chunks[i-1].Start || i > 0 && chunk.End <= chunks[i-1].End {
			t.Fatalf("passage %d does not go on from the one before", i)
		}
		if chunk.Start > covered {
			if lost := unread(d, d.Text[covered:chunk.Start]); lost != "" {
				t.Fatalf("before passage %d, %q is in none", i, lost)
			}
		}
		covered = chunk.End
	}
	if lost := unread(d, d.Text[covered:]); lost != "" {
		t.Fatalf("%q is in no passage", lost)
	}
	return chunks
}

// unread is what a gap between passages holds but space and the rules of Markdown.
func unread(d extract.Document, gap string) string {
	var lines []string
	for line := range strings.SplitSeq(gap, "\n") {
		if line = strings.TrimFunc(line, unicode.IsSpace); line != "" && !(d.Markdown && ruleMark.MatchString(line)) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func FuzzChunk(f *testing.F) {
	for _, seed := range []string{
		"", " \n\t", "one", "# A\n\nb\n\n## C\n\nd", "```\nx\n\ny\n```\n", "| a | b |\n|---|---|\n| 1 | 2 |\n", "a | b\n--|--\n1 | 2\n\nend",
		"Title\n=====\n\ntext\n\nSub\n---\n\n- one\n- two\n", "~~~\nnever closed", "    code\n    more\n", strings.Repeat("wörd ", 300), strings.Repeat("語", 500),
		"#\n\n######\n", "a\n\n---\n***\n\nb\n\n___", "a\u00a0b\u2003", "x. Y! Z? " + strings.Repeat("Long sentence without end ", 40),
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, text string, markdown bool) {
		d := extract.Document{Text: text, Markdown: markdown}
		checkChunks(t, d, wordCounter{}, testSizes)
		checkChunks(t, d, byteCounter{}, testSizes)
		checkChunks(t, d, byteCounter{}, chunkSizes{target: 8, max: 8})
	})
}

// randomMarkdown is a document of all structures in random order.
func randomMarkdown(r *rand.Rand) string {
	var b strings.Builder
	sentence := func() string { return strings.Repeat("word ", 1+r.IntN(20)) + "end. " }
	for range r.IntN(40) {
		switch r.IntN(8) {
		case 7:
			b.WriteString("* * *\n\n")
		case 0:
			fmt.Fprintf(&b, "%s Heading %d\n\n", strings.Repeat("#", 1+r.IntN(4)), r.IntN(100))
		case 1:
			b.WriteString("```go\n" + strings.Repeat("x := f(y)\n\n", r.IntN(30)) + "```\n\n")
		case 2:
			b.WriteString("| a | b |\n|---|---|\n" + strings.Repeat("| some cell | other cell |\n", r.IntN(30)) + "\n")
		case 3:
			for range r.IntN(10) {
				b.WriteString("- " + sentence() + "\n")
			}
			b.WriteString("\n")
		case 4:
			b.WriteString(strings.Repeat("ü", r.IntN(900)) + "\n\n")
		default:
			for range 1 + r.IntN(12) {
				b.WriteString(sentence())
				if r.IntN(4) == 0 {
					b.WriteString("\n")
				}
			}
			b.WriteString("\n\n")
		}
	}
	return b.String()
}

func TestChunkProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		text := randomMarkdown(r)
		for _, markdown := range []bool{true, false} {
			d := extract.Document{Text: text, Markdown: markdown}
			first := checkChunks(t, d, byteCounter{}, testSizes)
			if again := chunkDocument(d, byteCounter{}, testSizes); !reflect.DeepEqual(first, again) {
				t.Fatal("the same text was cut in two ways")
			}
			checkChunks(t, d, wordCounter{}, testSizes)
		}
	}
}

func texts(chunks []Chunk) []string {
	var all []string
	for _, c := range chunks {
		all = append(all, c.Text)
	}
	return all
}

func TestChunkKeepsHeadingPaths(t *testing.T) {
	long := strings.TrimSpace(strings.Repeat("Word word word word word word. ", 6)) // 36 words
	text := "# Guide\n\n" + long + "\n\n## Install\n\n" + long + "\n\n### Linux\n\n" + long + "\n\n## Use *now*\n\n" + long + "\n"
	chunks := checkChunks(t, extract.Document{Text: text, Markdown: true}, wordCounter{}, testSizes)
	want := [][]string{{"Guide"}, {"Guide", "Install"}, {"Guide", "Install", "Linux"}, {"Guide", "Use *now"}}
	if len(chunks) != len(want) {
		t.Fatalf("%d passages: %q", len(chunks), texts(chunks))
	}
	for i, c := range chunks {
		if !reflect.DeepEqual(c.HeadingPath, want[i]) {
			t.Errorf("passage %d stands under %q, not %q", i, c.HeadingPath, want[i])
		}
		if !strings.HasPrefix(c.Text, "#") {
			t.Errorf("passage %d lost its heading: %q", i, c.Text)
		}
	}
}

func TestChunkMergesSmallSections(t *testing.T) {
	text := "# FAQ\n\n## One\n\nYes.\n\n## Two\n\nNo.\n\n## Three\n\nPerhaps.\n"
	chunks := checkChunks(t, extract.Document{Text: text, Markdown: true}, wordCounter{}, testSizes)
	if len(chunks) != 1 || chunks[0].Text != strings.TrimSpace(text) {
		t.Fatalf("got %q", texts(chunks))
	}
	if !reflect.DeepEqual(chunks[0].HeadingPath, []string{"FAQ"}) {
		t.Errorf("it stands under %q", chunks[0].HeadingPath)
	}
}

func TestChunkKeepsHeadingsWithWhatTheyHead(t *testing.T) {
	long := strings.TrimSpace(strings.Repeat("Word word word word word word. ", 6)) // 36 words
	text := "# Guide\n\n* * *\n\n## Install\n\n" + long + "\n"
	chunks := checkChunks(t, extract.Document{Text: text, Markdown: true}, wordCounter{}, testSizes)
	if len(chunks) != 1 || !reflect.DeepEqual(chunks[0].HeadingPath, []string{"Guide", "Install"}) {
		t.Errorf("got %q", texts(chunks))
	}
}

func TestChunkNeverCutsFencesAndRows(t *testing.T) {
	fence := "```\n" + strings.Repeat("a b c d e\n\n", 6) + "```"
	row := "| " + strings.Repeat("cell ", 10) + "| x |"
	text := strings.Repeat("Some words here. ", 10) + "\n\n" + fence + "\n\n| h | i |\n|---|---|\n" + strings.Repeat(row+"\n", 9)
	chunks := checkChunks(t, extract.Document{Text: text, Markdown: true}, wordCounter{}, testSizes)
	fences, rows := 0, 0
	for _, c := range chunks {
		fences += strings.Count(c.Text, fence)
		rows += strings.Count(c.Text, row)
		if strings.Count(c.Text, "```")%2 != 0 {
			t.Errorf("a fence is cut: %q", c.Text)
		}
	}
	if fences != 1 || rows != 9 {
		t.Errorf("%d fences and %d rows are whole, of 1 and 9", fences, rows)
	}
}

func TestChunkCutsBetweenParagraphs(t *testing.T) {
	paragraph := strings.TrimSpace(strings.Repeat("One two three four five. ", 5)) // 25 words
	text := strings.Join([]string{paragraph, paragraph, paragraph}, "\n\n")
	for _, c := range checkChunks(t, extract.Document{Text: text}, wordCounter{}, chunkSizes{target: 40, max: 45}) {
		if c.Text != paragraph {
			t.Errorf("got %q", c.Text)
		}
	}
}

func TestChunkOverlapsSentencesOfOneSection(t *testing.T) {
	var b strings.Builder
	for i := range 60 {
		fmt.Fprintf(&b, "Sentence number %d ends here. ", i)
	}
	chunks := checkChunks(t, extract.Document{Text: b.String() + "\n\n# Next\n\n" + b.String(), Markdown: true}, wordCounter{}, testSizes)
	overlaps := 0
	for i := 1; i < len(chunks); i++ {
		shared := chunks[i-1].End - chunks[i].Start
		if strings.HasPrefix(chunks[i].Text, "# Next") {
			if shared > 0 {
				t.Error("an overlap crosses a heading")
			}
			continue
		}
		if shared > 0 {
			overlaps++
			if n := wordCounter.Count(wordCounter{}, chunks[i].Text[:shared]); n > testSizes.overlap {
				t.Errorf("passages %d and %d share %d tokens", i-1, i, n)
			}
		}
	}
	if overlaps == 0 {
		t.Error("no passages overlap")
	}
}

func TestChunkIgnoresLineBreaksOfProse(t *testing.T) {
	text := "This sentence is\nwrapped over\nthree lines. This one\nis too."
	blocks := scanBlocks(extract.Document{Text: text})
	var got []string
	for _, a := range atomise(text, blocks, wordCounter{}, 40, 56) {
		got = append(got, text[a.start:a.end])
	}
	want := []string{"This sentence is\nwrapped over\nthree lines. ", "This one\nis too."}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

// counted tells how often every byte is counted.
type counted struct{ bytes int }

func (c *counted) Count(s string) int {
	c.bytes += len(s)
	return byteCounter{}.Count(s)
}

func TestChunkCountsLinearly(t *testing.T) {
	shapes := map[string]string{
		"prose":       "Some words make a sentence. Others follow it. ",
		"one word":    "x",
		"one line":    "word ",
		"small parts": "# h\n\nx\n\n",
		"rows":        "| a | b |\n",
		"fence":       "```\nx\n",
	}
	for name, unit := range shapes {
		for _, size := range []int{10_000, 1_000_000} {
			text := strings.Repeat(unit, size/len(unit))
			c := &counted{}
			chunkDocument(extract.Document{Text: text, Markdown: true}, c, chunkSizes{target: 200, max: 256, overlap: 30})
			if c.bytes > 30*len(text) {
				t.Errorf("%s: %d bytes are counted for a text of %d", name, c.bytes, len(text))
			}
		}
	}
}

func TestScanBlocks(t *testing.T) {
	text := "Setext\n======\npara\nsame\n\nSub\n---\n- item\n  more\n- item\n\na | b\n--|--\n1 | 2\n\n    code\n\n> quote\n```\n# no heading\n```\n## Closed ##\n"
	var got []string
	for _, b := range scanBlocks(extract.Document{Text: text, Markdown: true}) {
		got = append(got, fmt.Sprintf("%d%d %s", b.kind, b.level, strings.ReplaceAll(text[b.start:b.end], "\n", "/")))
	}
	want := []string{
		"11 Setext/======", "00 para/same", "12 Sub/---", "00 - item/  more", "00 - item", "30 a | b", "30 --|--", "30 1 | 2",
		"20     code", "00 > quote", "20 ```/# no heading/```", "12 ## Closed ##",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestChunkKnowsItsSection: a passage knows how far the section that holds it goes, subsections included.
func TestChunkKnowsItsSection(t *testing.T) {
	words := func(w string) string { return strings.Repeat(w+" ", 30) }
	text := words("before") + "\n\n# A\n\n" + words("a") + "\n\n## B\n\n" + words("b") + "\n\n### C\n\n" + words("c") + "\n\n## D\n\n" + words("d") + "\n\n# E\n\n" + words("e")
	at := func(mark string) int { return strings.Index(text, mark) }
	want := map[string]span{"before": {0, at("# A")}, "a": {at("# A"), at("# E")}, "b": {at("## B"), at("## D")}, "c": {at("### C"), at("## D")}, "d": {at("## D"), at("# E")}, "e": {at("# E"), len(text)}}
	for _, c := range checkChunks(t, extract.Document{Text: text, Markdown: true}, wordCounter{}, testSizes) {
		words := strings.Fields(c.Text)
		if got := (span{c.SectionStart, c.SectionEnd}); got != want[words[len(words)-1]] {
			t.Errorf("%.20q is in the section [%d,%d), want %v", c.Text, got.start, got.end, want[words[len(words)-1]])
		}
	}
}

func TestChunkCarriesTheHeaderOfItsTable(t *testing.T) {
	text := "# T\n\n| name | age |\n| --- | --- |\n" + strings.Repeat("| some one with a long name | 7 |\n", 30)
	chunks := checkChunks(t, extract.Document{Text: text, Markdown: true}, wordCounter{}, testSizes)
	if len(chunks) < 3 || chunks[0].Lead != "" {
		t.Fatalf("%d passages, the first under %q", len(chunks), chunks[0].Lead)
	}
	for _, c := range chunks[1:] {
		if c.Lead != "| name | age |\n| --- | --- |" || !strings.HasPrefix(c.embeddedText(), "T\n\n| name | age |\n| --- | --- |\n| some") {
			t.Errorf("%.40q under %q", c.Text, c.Lead)
		}
		for line := range strings.Lines(c.Text) {
			if !strings.HasPrefix(line, "| ") || !strings.HasSuffix(strings.TrimSpace(line), "|") {
				t.Errorf("a row is cut: %q", line)
			}
		}
	}
}

func TestChunkKeepsCodeWholeUpToTheMaximum(t *testing.T) {
	fence := "```go\n" + strings.Repeat("one two three four five\n", 10) + "```" // 52 words: above the target, below the maximum
	text := "# H\n\n" + strings.Repeat("Words before it. ", 9) + "\n\n" + fence + "\n\nAnd after."
	for _, c := range checkChunks(t, extract.Document{Text: text, Markdown: true}, wordCounter{}, testSizes) {
		if n := strings.Count(c.Text, "```"); n == 1 {
			t.Errorf("the fence is cut: %q", c.Text)
		}
	}
	source := "package x\n\n// A says.\nfunc A() {\n" + strings.Repeat("\tcall(a, b, c)\n", 9) + "}\n\n// B too.\nfunc B() {\n" + strings.Repeat("\tcall(a, b, c)\n", 9) + "}\n"
	d, err := extract.Extract(t.Context(), "x.go", "", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	chunks := checkChunks(t, d, wordCounter{}, testSizes)
	last := chunks[len(chunks)-1]
	if !strings.HasPrefix(last.Text, "// B too.\nfunc B() {") || !strings.HasSuffix(last.Text, "}") || !reflect.DeepEqual(last.HeadingPath, []string{"func B()"}) {
		t.Errorf("the last passage is %q under %q", last.Text, last.HeadingPath)
	}
}

func TestChunkKnowsItsPageAndLines(t *testing.T) {
	d := extract.Document{Text: "one two\nthree\n\nfour", Pages: []int{0, 15, 15},
		Boxes: []extract.Box{{Start: 0, End: 7, Page: 1, Left: 1}, {Start: 8, End: 13, Page: 1, Left: 2}, {Start: 15, End: 19, Page: 3, Left: 3}}}
	chunks := checkChunks(t, d, wordCounter{}, chunkSizes{target: 8, max: 8})
	if len(chunks) != 1 || *chunks[0].Page != 1 || len(chunks[0].Boxes) != 15 || chunks[0].Boxes[10] != 3 {
		t.Fatalf("got %+v", chunks)
	}
	locate(d, []Chunk{{Start: 15, End: 19}})
	later := []Chunk{{Start: 15, End: 19}}
	locate(d, later)
	if *later[0].Page != 3 || len(later[0].Boxes) != 5 {
		t.Errorf("got page %d and %v", *later[0].Page, later[0].Boxes)
	}
}

func BenchmarkChunk(b *testing.B) {
	text := strings.Repeat("# Head\n\n"+strings.Repeat("Some words make a sentence of usual length. ", 40)+"\n\n", 200)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		chunkDocument(extract.Document{Text: text, Markdown: true}, wordCounter{}, chunkSizes{target: 200, max: 256, overlap: 30})
	}
}
