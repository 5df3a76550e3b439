package ingest

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"lessrag/ingest/extract"
)

// Chunk is one passage: a span of the extracted text with its place in it.
type Chunk struct {
	Text        string // exactly extracted[Start:End]
	Start, End  int    // bytes
	Page        *int   // 1-based; nil for formats without pages
	HeadingPath []string
	Tokens      int

	// The section that holds the passage: its heading and all below it, subsections included. Without headings
	// it is the whole text. Retrieval may widen a hit to it.
	SectionStart, SectionEnd int

	Lead  string    // the header of the table in whose middle the passage begins; "" otherwise
	Boxes []float32 // for formats with pages: page, left, bottom, right, top of every line, in points
}

// chunkSizes are in tokens.
type chunkSizes struct {
	target  int // what a passage is filled up to
	max     int // what none exceeds
	overlap int // what neighbours of one section share at most
}

func (s chunkSizes) check() error {
	switch {
	case s.target < 8:
		return fmt.Errorf("ingest: passages of %d tokens: at least 8 are needed", s.target)
	case s.max < s.target:
		return fmt.Errorf("ingest: passages of at most %d tokens cannot have a target of %d", s.max, s.target)
	case s.overlap > s.target/2:
		return fmt.Errorf("ingest: an overlap of %d tokens is more than half of a passage of %d", s.overlap, s.target)
	}
	return nil
}

// chunkDocument cuts a text into passages along its structure. It is pure and deterministic, takes time
// linear in the text, and together the passages hold everything of it but space and rules.
//
// A passage never crosses a heading or a rule, unless it would be too small to stand alone; inside a section it ends
// between paragraphs if one ends in its second half, and between sentences otherwise. Code and table
// rows are cut only if larger than a passage may be.
func chunkDocument(d extract.Document, t TokenCounter, s chunkSizes) []Chunk {
	c := chunker{text: d.Text, tokens: t, sizes: s}
	for _, section := range c.sections(scanBlocks(d)) {
		c.pack(section)
	}
	c.mergeSmall()
	chunks := make([]Chunk, len(c.pieces))
	for i, p := range c.pieces {
		chunks[i] = Chunk{Text: d.Text[p.start:p.end], Start: p.start, End: p.end, HeadingPath: p.path, Tokens: p.tokens,
			SectionStart: p.section.start, SectionEnd: p.section.end, Lead: d.Text[p.lead.start:p.lead.end]}
	}
	locate(d, chunks)
	return chunks
}

// locate says on which page every passage begins, and where its lines stand.
func locate(d extract.Document, chunks []Chunk) {
	box := 0
	for i := range chunks {
		c := &chunks[i]
		if len(d.Pages) > 0 {
			page, _ := slices.BinarySearch(d.Pages, c.Start+1) // how many pages begin at or before it
			page = max(page, 1)
			c.Page = &page
		}
		for box < len(d.Boxes) && d.Boxes[box].End <= c.Start {
			box++
		}
		for _, b := range d.Boxes[box:] { // neighbours overlap, so that the next passage begins here again
			if b.Start >= c.End {
				break
			}
			c.Boxes = append(c.Boxes, float32(b.Page), b.Left, b.Bottom, b.Right, b.Top)
		}
	}
}

type chunker struct {
	text   string
	tokens TokenCounter
	sizes  chunkSizes
	pieces []piece
}

// section is a heading or a rule and what stands below it, up to the next one.
type section struct {
	path  []string // of headings, its own included
	level int      // of its heading; 0 above the first, belowRule below a rule
	atoms []atom
	span  span // with the sections below its heading
}

// piece is a passage being made; text[start:end] has no space at its ends.
type piece struct {
	start, end int
	tokens     int
	path       []string
	section    span
	lead       span
	bare       bool // headings and nothing to read below them, such as a rule
}

// belowRule is the level of what a rule parts from the text before it, in the same section: deeper than any heading.
const belowRule = 7

// sections groups blocks by heading and by rule, and cuts them into atoms.
func (c *chunker) sections(blocks []block) []section {
	var sections []section
	var levels []int
	path := []string{} // never nil: it is stored as an array
	for i := 0; i < len(blocks); {
		level, end := 0, i
		switch b := blocks[i]; b.kind {
		case rule:
			level = belowRule
			i, end = i+1, i+1
		case heading:
			level, end = b.level, i+1
			for len(levels) > 0 && levels[len(levels)-1] >= b.level {
				levels, path = levels[:len(levels)-1], path[:len(path)-1]
			}
			if b.title != "" {
				levels, path = append(levels, b.level), append(slices.Clone(path), b.title)
			}
		}
		for end < len(blocks) && blocks[end].kind != heading && !(blocks[end].kind == rule && c.parts(blocks[i:end])) {
			end++
		}
		if end == i { // nothing between a rule and what follows it
			continue
		}
		// The end of the text that the last block may reach to is the start of the next section.
		text := c.text
		if end < len(blocks) {
			text = text[:blocks[end].start]
		}
		atoms := atomise(text, blocks[i:end], c.tokens, c.sizes.target, c.sizes.max)
		sections = append(sections, section{path, level, atoms, span{blocks[i].start, len(text)}})
		i = end
	}
	nest(sections)
	return sections
}

// parts tells whether a rule behind blocks ends their section. One behind a heading and a line or two is part of
// the title, as pages are made.
func (c *chunker) parts(blocks []block) bool {
	return len(blocks) == 0 || blocks[0].kind != heading ||
		4*boundedCount(c.text[blocks[0].start:blocks[len(blocks)-1].end], c.tokens, c.sizes.target) >= c.sizes.target
}

// nest lengthens the span of every section over the ones below its heading, in linear time.
func nest(sections []section) {
	var open []int // sections whose end is not known, outermost first
	for i, s := range sections {
		for len(open) > 0 && sections[open[len(open)-1]].level >= s.level {
			open = open[:len(open)-1]
		}
		// What is left open, six levels at most, reaches over this one.
		if s.level > 0 {
			open = append(open, i)
		}
		for _, o := range open {
			sections[o].span.end = s.span.end
		}
	}
}

// pack fills passages with the atoms of a section, one after the other.
func (c *chunker) pack(s section) {
	for from, first := 0, 0; first < len(s.atoms); {
		end := c.fill(s.atoms, from, first)
		c.emit(s, from, end)
		first = end
		from = c.overlapStart(s.atoms, from, end)
	}
}

// fill returns the end of the passage of atoms[from:], which must take more than the overlap atoms[from:first].
func (c *chunker) fill(atoms []atom, from, first int) int {
	sum, end := 0, from
	for end < len(atoms) && (end <= first || sum+atoms[end].tokens <= c.sizes.target) {
		sum += atoms[end].tokens
		end++
	}
	// A short rest that still fits would be a poor passage of its own.
	rest := sum
	for i := end; i < len(atoms) && rest <= c.sizes.max; i++ {
		rest += atoms[i].tokens
	}
	if end == len(atoms) || rest <= c.sizes.max {
		return len(atoms)
	}
	// The heading stays with what follows it.
	if end == first+1 && atoms[first].kind == heading && sum+atoms[end].tokens <= c.sizes.max {
		return end + 1
	}
	for cut, kept := end, sum; cut > first+1 && 2*kept >= c.sizes.target; cut-- {
		if atoms[cut-1].last && atoms[cut-1].kind != heading {
			return cut
		}
		kept -= atoms[cut-1].tokens
	}
	return end
}

// overlapStart returns where the passage after atoms[from:end] begins: some sentences back, if the first
// new atom then still fits.
func (c *chunker) overlapStart(atoms []atom, from, end int) int {
	if end == len(atoms) {
		return end
	}
	start, sum := end, 0
	for start > from+1 && atoms[start-1].kind == paragraph && sum+atoms[start-1].tokens <= c.sizes.overlap {
		start--
		sum += atoms[start].tokens
	}
	if sum+atoms[end].tokens > c.sizes.target {
		return end
	}
	return start
}

// emit adds atoms[from:end] as a passage. Counted as a whole it may come out above the maximum,
// because tokens of neighbours need not add up; then it is cut in two.
func (c *chunker) emit(s section, from, end int) {
	start, stop := trim(c.text, s.atoms[from].start, s.atoms[end-1].end)
	if start == stop {
		return
	}
	tokens := c.tokens.Count(c.text[start:stop])
	if tokens > c.sizes.max && end-from > 1 {
		middle := from + (end-from)/2
		c.emit(s, from, middle)
		c.emit(s, middle, end)
		return
	}
	bare := !slices.ContainsFunc(s.atoms[from:end], func(a atom) bool {
		return a.kind != heading && strings.ContainsFunc(c.text[a.start:a.end], readable)
	})
	c.pieces = append(c.pieces, piece{start, stop, tokens, s.path, s.span, s.atoms[from].lead, bare})
}

func readable(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

func trim(text string, start, end int) (int, int) {
	s := text[start:end]
	start += len(s) - len(strings.TrimLeft(s, spaces))
	end -= len(s) - len(strings.TrimRight(s, spaces))
	return min(start, end), end
}

// spaces are trimmed from the ends of passages.
const spaces = " \t\n"

// mergeSmall joins a passage too small to stand alone with the one after it, and a bare heading with what
// it heads. The path of the two is what they have in common, or the lower one's under a bare heading.
func (c *chunker) mergeSmall() {
	if len(c.pieces) == 0 {
		return
	}
	merged := c.pieces[:1]
	for _, next := range c.pieces[1:] {
		last := &merged[len(merged)-1]
		room := c.sizes.target
		if last.bare {
			room = c.sizes.max
		}
		if next.start < last.end || !last.bare && 4*last.tokens >= c.sizes.target || last.tokens+next.tokens > room {
			merged = append(merged, next)
			continue
		}
		tokens := c.tokens.Count(c.text[last.start:next.end])
		if tokens > c.sizes.max {
			merged = append(merged, next)
			continue
		}
		path := commonPrefix(last.path, next.path)
		if last.bare && len(next.path) > 0 {
			path = next.path
		}
		within := span{min(last.section.start, next.section.start), max(last.section.end, next.section.end)}
		*last = piece{last.start, next.end, tokens, path, within, last.lead, last.bare && next.bare}
	}
	c.pieces = merged
}

func commonPrefix(a, b []string) []string {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return a[:n]
}
