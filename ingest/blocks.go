package ingest

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"lessrag/ingest/extract"
)

type blockKind int

const (
	paragraph blockKind = iota // prose, list items and quotations: cut between sentences
	heading
	code     // a fence with its marks, or indented lines: kept whole where it fits, else cut between lines
	tableRow // never cut where it fits
	rule     // a thematic break: parts a section, and is in no passage unless it stands in the middle of one
)

// block is a piece of structure: text[start:end] without blank lines around it.
type block struct {
	start, end int
	kind       blockKind
	level      int    // of a heading, 1…6
	title      string // of a heading, without its marks
	lead       span   // of a table's row: the header above it, which says what its cells are
}

// span is a part of the text, text[start:end].
type span struct{ start, end int }

var (
	atxHeading   = regexp.MustCompile(`^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$`)
	setextMark   = regexp.MustCompile(`^ {0,3}(=+|-+)[ \t]*$`)
	fenceMark    = regexp.MustCompile("^ {0,3}(`{3,}|~{3,})")
	ruleMark     = regexp.MustCompile(`^ {0,3}(?:(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|(?:\*[ \t]*){3,})$`)
	listItem     = regexp.MustCompile(`^[ \t]*(?:[-*+]|[0-9]{1,9}[.)])[ \t]+\S`)
	delimiterRow = regexp.MustCompile(`^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$`)
)

// scanBlocks splits a document into blocks, in order. It sees the structure of Markdown line by line, which is
// all that chunking needs; other text has the headings of its outline, and what stands between blank lines.
func scanBlocks(d extract.Document) []block {
	s := scanner{text: d.Text, plain: paragraph}
	if d.Language != "" {
		s.plain = code
	}
	outline := d.Outline
	for start := 0; start < len(d.Text); {
		end := start + strings.IndexByte(d.Text[start:], '\n')
		if end < start {
			end = len(d.Text)
		}
		switch {
		case d.Markdown:
			s.markdownLine(start, end)
		case len(outline) > 0 && outline[0].Start <= start && outline[0].End > start:
			h := outline[0]
			end = max(end, min(h.End, len(d.Text)))
			s.add(block{start: start, end: end, kind: heading, level: h.Level, title: headingTitle(h.Title)}, false)
			outline = outline[1:]
		default:
			s.plainLine(start, end)
		}
		start = end + 1
	}
	leadTables(d.Text, s.blocks)
	return s.blocks
}

// maxLead is how long the header of a table may be to stand before passages that begin below it, in bytes.
const maxLead = 400

// leadTables gives every row of a table its header.
func leadTables(text string, blocks []block) {
	for first := 0; first < len(blocks); {
		end := first + 1
		for end < len(blocks) && blocks[first].kind == tableRow && blocks[end].kind == tableRow && blocks[end].start == blocks[end-1].end+1 {
			end++
		}
		if end-first > 2 && delimiterRow.MatchString(text[blocks[first+1].start:blocks[first+1].end]) {
			header := span{blocks[first].start, blocks[first+1].end}
			for i := first + 2; i < end && header.end-header.start <= maxLead; i++ {
				blocks[i].lead = header
			}
		}
		first = end
	}
}

type scanner struct {
	text   string
	plain  blockKind // of text that is not Markdown
	blocks []block
	open   bool   // the last block may take the next line
	fence  string // mark that opened the fence we are in, "" outside
	table  bool   // the last block is a row of a table without outer bars
}

func (s *scanner) add(b block, open bool) {
	s.blocks = append(s.blocks, b)
	s.open = open
}

// last is the block that may take the next line, or nil.
func (s *scanner) last() *block {
	if !s.open {
		return nil
	}
	return &s.blocks[len(s.blocks)-1]
}

func (s *scanner) plainLine(start, end int) {
	if blank(s.text[start:end]) {
		s.open = false
		return
	}
	if last := s.last(); last != nil {
		last.end = end
		return
	}
	s.add(block{start: start, end: end, kind: s.plain}, true)
}

func (s *scanner) markdownLine(start, end int) {
	line := s.text[start:end]
	if s.fence != "" {
		s.fenceLine(line, end)
		return
	}
	last := s.last()
	if blank(line) {
		s.open, s.table = false, false
		return
	}
	if mark := fenceMark.FindStringSubmatch(line); mark != nil {
		s.fence = mark[1]
		s.table = false
		s.add(block{start: start, end: end, kind: code}, true)
		return
	}
	if m := atxHeading.FindStringSubmatch(line); m != nil {
		s.table = false
		s.add(block{start: start, end: end, kind: heading, level: len(m[1]), title: headingTitle(m[2])}, false)
		return
	}
	if last != nil && last.kind == paragraph && !strings.Contains(s.text[last.start:last.end], "\n") {
		if m := setextMark.FindStringSubmatch(line); m != nil && !listItem.MatchString(s.text[last.start:last.end]) {
			last.kind, last.level, last.title = heading, 2, headingTitle(s.text[last.start:last.end])
			if m[1][0] == '=' {
				last.level = 1
			}
			last.end = end
			s.open = false
			return
		}
	}
	if ruleMark.MatchString(line) {
		s.table = false
		s.add(block{start: start, end: end, kind: rule}, false)
		return
	}
	if s.tableLine(line, start, end, last) {
		return
	}
	indented := strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t")
	switch {
	case listItem.MatchString(line) && !(indented && last != nil && last.kind == code):
		s.add(block{start: start, end: end}, true)
	case indented && (last == nil || last.kind == code):
		if last != nil {
			last.end = end
		} else {
			s.add(block{start: start, end: end, kind: code}, true)
		}
	case last != nil && last.kind == paragraph:
		last.end = end
	default:
		s.add(block{start: start, end: end}, true)
	}
}

// fenceLine takes a line inside a fence and sees its end: a mark of the same kind, at least as long, alone.
func (s *scanner) fenceLine(line string, end int) {
	s.blocks[len(s.blocks)-1].end = end
	if m := fenceMark.FindStringSubmatch(line); m != nil && m[1][0] == s.fence[0] && len(m[1]) >= len(s.fence) &&
		strings.Trim(line, " \t"+m[1][:1]) == "" {
		s.fence = ""
		s.open = false
	}
}

// tableLine takes rows: lines that begin with a bar, and those of a table that its delimiter row gives away.
func (s *scanner) tableLine(line string, start, end int, last *block) bool {
	row := strings.HasPrefix(strings.TrimLeft(line, " \t"), "|")
	switch {
	case row:
	case s.table && strings.Contains(line, "|"):
	case strings.Contains(line, "|") && strings.Contains(line, "-") && delimiterRow.MatchString(line) && last != nil && last.kind == paragraph:
		// The line above, the last one of a paragraph, is the header.
		header := strings.LastIndexByte(s.text[last.start:last.end], '\n')
		if header < 0 {
			last.kind = tableRow
		} else {
			header += last.start
			bottom := last.end
			last.end = header
			s.add(block{start: header + 1, end: bottom, kind: tableRow}, false)
		}
		s.table = true
	default:
		s.table = false
		return false
	}
	s.add(block{start: start, end: end, kind: tableRow}, false)
	return true
}

func blank(line string) bool { return strings.TrimSpace(line) == "" }

// maxTitle bounds a heading inside a path, in bytes.
const maxTitle = 120

// headingTitle is a heading in one line, without emphasis and code marks around it.
func headingTitle(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	s = strings.Trim(s, "*_`")
	if len(s) <= maxTitle {
		return s
	}
	cut := maxTitle
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
