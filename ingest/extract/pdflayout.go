package extract

import (
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// pdfPage is a page as PDFium reads it. Places are in points, from the lower left corner.
type pdfPage struct {
	height float64
	lines  []pdfLine
	chars  int
}

type pdfLine struct {
	text                     string
	left, right, top, bottom float64
	size                     float64 // of its type
	joined                   bool    // a word is parted at its end by a hyphen that is not the author's
}

// rawLine is a line of the page's text and how many characters end it.
type rawLine struct {
	text   string
	ending int
	joined bool
}

const (
	pdfSpace  = " \t\u00a0"
	hyphenEnd = '\uFFFE' // PDFium's mark for a hyphen at the end of a line
)

// splitLines parts the text of a page at line ends and at hyphens that end lines.
func splitLines(text string) []rawLine {
	var lines []rawLine
	for text != "" {
		i := strings.IndexFunc(text, func(r rune) bool { return r == '\n' || r == '\r' || r == hyphenEnd || r == '\x02' })
		if i < 0 {
			return append(lines, rawLine{text: text})
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		line := rawLine{text: text[:i], ending: 1, joined: r == hyphenEnd || r == '\x02'}
		text = text[i+size:]
		if rest, ok := strings.CutPrefix(text, "\r\n"); line.joined && ok {
			line.ending, text = 3, rest
		} else if rest, ok := strings.CutPrefix(text, "\n"); r == '\r' && ok {
			line.ending, text = 2, rest
		}
		lines = append(lines, line)
	}
	return lines
}

func utf16Length(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}

// layOut makes a document of the pages.
func layOut(pages []pdfPage) Document {
	dropRepeated(pages)
	body := bodySize(pages)
	keepHyphens(pages)
	var b pdfBuilder
	for i, p := range pages {
		b.page(i+1, p, body)
	}
	return Document{Text: b.text.String(), MediaType: typePDF, Pages: b.pages, Outline: b.outline, Boxes: b.boxes}
}

// marginLines is how many lines at either end of a page may be a header or a footer.
const marginLines = 3

// dropRepeated removes headers and footers: lines at the ends of pages that stand on a third of all pages, but
// for their numbers; running heads, which change with the chapter and are told by their place; and page numbers.
func dropRepeated(pages []pdfPage) {
	seen := map[string]int{}
	var heads, feet int
	for _, p := range pages {
		on := map[string]bool{}
		for _, i := range marginal(p) {
			on[withoutNumbers(p.lines[i].text)] = true
		}
		for key := range on {
			seen[key]++
		}
		if runs(p, 0) {
			heads++
		}
		if runs(p, len(p.lines)-1) {
			feet++
		}
	}
	often := max(3, (len(pages)+2)/3)
	mostly := max(3, (len(pages)+1)/2)
	for n, p := range pages {
		drop := map[int]bool{}
		for _, i := range marginal(p) {
			text := p.lines[i].text
			first, last := i == 0, i == len(p.lines)-1
			drop[i] = seen[withoutNumbers(text)] >= often || (first || last) && pageNumber(text) && apart(p, i) ||
				first && heads >= mostly && runs(p, i) || last && feet >= mostly && runs(p, i)
		}
		kept := make([]pdfLine, 0, len(p.lines))
		for i, l := range p.lines {
			if !drop[i] {
				kept = append(kept, l)
			}
		}
		pages[n].lines = kept
	}
}

// runs reports whether a line is where running heads and feet are: at the edge of the page, apart from the text.
func runs(p pdfPage, i int) bool {
	return len(p.lines) > 2 && len(p.lines[i].text) < 160 && inMargin(p, i) && apart(p, i)
}

// inMargin reports whether a line stands in the outer twelfth of the page's height.
func inMargin(p pdfPage, i int) bool {
	l := p.lines[i]
	return p.height > 0 && (l.bottom > p.height*11/12 || l.top < p.height/12)
}

// apart reports whether a line at the end of a page is farther from its neighbour than lines of text are.
func apart(p pdfPage, i int) bool {
	if len(p.lines) == 1 {
		return true
	}
	other := p.lines[1]
	if i > 0 {
		other = p.lines[i-1]
	}
	l := p.lines[i]
	gap := max(l.bottom-other.top, other.bottom-l.top)
	return gap > 0.8*max(l.size, 6)
}

// marginal are the indices of a page's first and last lines.
func marginal(p pdfPage) []int {
	var at []int
	for i := range p.lines {
		if i < marginLines || i >= len(p.lines)-marginLines {
			at = append(at, i)
		}
	}
	return at
}

// withoutNumbers makes the headers of different pages equal.
func withoutNumbers(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, oneLine(s))
}

func pageNumber(s string) bool {
	s = strings.ToLower(strings.Trim(oneLine(s), "-–—[]() "))
	s = strings.TrimPrefix(s, "page ")
	if s == "" || len(s) > 12 {
		return false
	}
	return strings.Trim(s, "0123456789 /of") == "" && strings.ContainsAny(s, "0123456789") || strings.Trim(s, "ivxlc") == ""
}

// keepHyphens gives words at line ends their hyphens back where they are the author's, as in "line-end": when the
// document has the word with its hyphen elsewhere, or both halves as words but not the whole.
func keepHyphens(pages []pdfPage) {
	seen := map[string]bool{}
	for _, p := range pages {
		for i, l := range p.lines {
			words := strings.Fields(strings.ToLower(l.text))
			if i > 0 && p.lines[i-1].joined { // halves prove nothing
				words = words[min(1, len(words)):]
			}
			if l.joined {
				words = words[:max(len(words)-1, 0)]
			}
			for _, w := range words {
				seen[strings.Trim(w, `.,;:!?()[]"'“”’`)] = true
			}
		}
	}
	for _, p := range pages {
		for i := range len(p.lines) - 1 {
			l := &p.lines[i]
			if !l.joined {
				continue
			}
			first, second := lastWord(l.text), firstWord(p.lines[i+1].text)
			whole := seen[first+second]
			if seen[first+"-"+second] || !whole && len(first) > 2 && len(second) > 2 && seen[first] && seen[second] {
				l.text += "-"
			}
		}
	}
}

func firstWord(s string) string {
	w, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(s)), " ")
	return strings.Trim(w, `.,;:!?()[]"'“”’`)
}

func lastWord(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	return strings.Trim(s[strings.LastIndexByte(s, ' ')+1:], `.,;:!?()[]"'“”’`)
}

// bodySize is the size of type that most characters have.
func bodySize(pages []pdfPage) float64 {
	chars := map[float64]int{}
	for _, p := range pages {
		for _, l := range p.lines {
			chars[math.Round(l.size*2)/2] += len(l.text)
		}
	}
	best, most := 0.0, 0
	for size, n := range chars {
		if n > most || n == most && size < best {
			best, most = size, n
		}
	}
	return best
}

// pdfBuilder joins lines to paragraphs.
type pdfBuilder struct {
	text    strings.Builder
	pages   []int
	outline []Heading
	boxes   []Box
	last    *pdfLine
	level   int // of the last line's heading, 0 for prose
}

// headingScale is how much larger than the body type a heading's is.
const headingScale = 1.15

func (b *pdfBuilder) page(number int, p pdfPage, body float64) {
	// A page begins where its first text does, behind the space that follows the page before.
	fresh := true
	for i := range p.lines {
		l := &p.lines[i]
		level := 0
		if body > 0 && l.size >= headingScale*body && strings.ContainsFunc(l.text, unicode.IsLetter) && len(l.text) < 300 {
			level = headingLevel(l.size / body)
		}
		b.separate(l, level, fresh, p)
		if fresh {
			b.pages = append(b.pages, b.text.Len())
			fresh = false
		}
		start := b.text.Len()
		b.text.WriteString(strings.TrimSpace(clean(l.text)))
		end := b.text.Len()
		b.boxes = append(b.boxes, Box{Start: start, End: end, Page: number,
			Left: float32(l.left), Bottom: float32(l.bottom), Right: float32(l.right), Top: float32(l.top)})
		b.head(l, level, start, end)
		b.last, b.level = l, level
	}
	if fresh { // a page without text
		b.pages = append(b.pages, b.text.Len())
	}
}

// headingLevel is 1 for the largest type.
func headingLevel(scale float64) int {
	switch {
	case scale >= 1.9:
		return 1
	case scale >= 1.35:
		return 2
	}
	return 3
}

// head opens a heading, or lengthens one that goes over several lines.
func (b *pdfBuilder) head(l *pdfLine, level, start, end int) {
	if level == 0 {
		return
	}
	if n := len(b.outline); n > 0 && b.level == level && b.last != nil && b.outline[n-1].End == start-1 {
		b.outline[n-1].End = end
		b.outline[n-1].Title = short(oneLine(b.text.String()[b.outline[n-1].Start:end]), 200)
		return
	}
	b.outline = append(b.outline, Heading{Start: start, End: end, Level: level, Title: short(oneLine(l.text), 200)})
}

// separate writes what stands between the last line and the next: nothing inside a word that was hyphenated, a
// line end inside a paragraph, a blank line between paragraphs and around headings.
func (b *pdfBuilder) separate(l *pdfLine, level int, newPage bool, p pdfPage) {
	switch {
	case b.last == nil:
	case b.last.joined && level == b.level:
	case level != b.level:
		b.text.WriteString("\n\n")
	case newPage:
		b.text.WriteString(betweenPages(b.last.text))
	case b.newParagraph(l, level):
		b.text.WriteString("\n\n")
	default:
		b.text.WriteByte('\n')
	}
}

// betweenPages joins a sentence that goes on overleaf.
func betweenPages(last string) string {
	r, _ := utf8.DecodeLastRuneInString(strings.TrimRight(last, pdfSpace))
	if unicode.IsLetter(r) || r == ',' {
		return "\n"
	}
	return "\n\n"
}

// bullets begin the items of lists.
var bullets = []rune{'•', '▪', '‣', '◦', '●', '–', '∙', '·'}

// newParagraph tells by the gap above a line, by a bullet, and by a first line that stands in.
func (b *pdfBuilder) newParagraph(l *pdfLine, level int) bool {
	first, _ := utf8.DecodeRuneInString(l.text)
	gap := b.last.bottom - l.top
	size := max(l.size, b.last.size, 1)
	switch {
	case slices.Contains(bullets, first):
		return true
	case l.top == 0 && l.bottom == 0:
		return false
	case gap > 0.55*size || gap < -3*size: // a new column begins higher up
		return true
	case level > 0:
		return false
	}
	return l.left-b.last.left > 0.8*size && l.left-b.last.left < 4*size && endsSentence(b.last.text)
}

func endsSentence(s string) bool {
	r, _ := utf8.DecodeLastRuneInString(strings.TrimRight(s, pdfSpace+`"')”’`))
	return strings.ContainsRune(".!?:;", r)
}
