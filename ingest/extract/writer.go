package extract

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// writer makes the Markdown of a structured document. Blocks are parted by blank lines. It stops taking
// text at maxTextBytes; full tells.
type writer struct {
	b     strings.Builder
	tight bool // the last block was a list item, which the next one follows without a blank line
	cells int
	err   error
}

// heading writes a heading of level 1…6 in one line.
func (w *writer) heading(level int, title string) {
	if title = oneLine(title); title != "" {
		w.block(strings.Repeat("#", min(max(level, 1), 6))+" "+title, false)
	}
}

// paragraph writes prose; line breaks in it stay.
func (w *writer) paragraph(text string) {
	if text = trimLines(text); text != "" {
		w.block(text, false)
	}
}

// item writes a list item of a depth from 0.
func (w *writer) item(depth int, text string) {
	if text = oneLine(text); text != "" {
		w.block(strings.Repeat("  ", min(max(depth, 0), 3))+"- "+text, true)
	}
}

// code writes a fenced block whose fence is longer than any in it.
func (w *writer) code(language, text string) {
	text = strings.Trim(text, "\n")
	if strings.TrimSpace(text) == "" {
		return
	}
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	w.block(fence+language+"\n"+text+"\n"+fence, false)
}

// table writes rows as a Markdown table, the first as its header. Columns that are empty in every row go.
func (w *writer) table(rows [][]string) {
	rows = tidyTable(rows)
	if len(rows) == 0 {
		return
	}
	var b strings.Builder
	for i, row := range rows {
		writeRow(&b, row)
		if i == 0 {
			b.WriteString("|" + strings.Repeat(" --- |", len(row)) + "\n")
		}
		if b.Len() > maxTextBytes {
			break // block will say so
		}
	}
	w.block(strings.TrimSuffix(b.String(), "\n"), false)
}

// count adds cells, empty ones included, and refuses tables that are larger than any reader's patience.
func (w *writer) count(cells int) error {
	w.cells += cells
	if w.cells > maxTableCells {
		return overLimit("its tables have more than %d cells", maxTableCells)
	}
	return w.err
}

func (w *writer) block(text string, tight bool) {
	if text = clean(text); w.err != nil || text == "" {
		return
	}
	if w.b.Len()+len(text) > maxTextBytes {
		w.err = overLimit("it holds more than %d MiB of text", maxTextBytes>>20)
		return
	}
	switch {
	case w.b.Len() == 0:
	case tight && w.tight:
		w.b.WriteByte('\n')
	default:
		w.b.WriteString("\n\n")
	}
	w.b.WriteString(text)
	w.tight = tight
}

// document is what was written.
func (w *writer) document(mediaType string) (Document, error) {
	return Document{Text: w.b.String(), Markdown: true, MediaType: mediaType}, w.err
}

func writeRow(b *strings.Builder, row []string) {
	b.WriteByte('|')
	for _, cell := range row {
		b.WriteByte(' ')
		b.WriteString(cell)
		b.WriteString(" |")
	}
	b.WriteByte('\n')
}

// tidyTable makes the rows equally long, puts every cell into one line and drops what is empty throughout.
func tidyTable(rows [][]string) [][]string {
	width := 0
	for _, row := range rows {
		width = max(width, len(row))
	}
	used := make([]bool, width)
	kept := make([][]string, 0, len(rows))
	for _, row := range rows {
		empty := true
		for i, cell := range row {
			row[i] = strings.ReplaceAll(oneLine(cell), "|", `\|`)
			if row[i] != "" {
				used[i], empty = true, false
			}
		}
		if !empty {
			kept = append(kept, row)
		}
	}
	for r, row := range kept {
		var cells []string
		for i := range used {
			switch {
			case !used[i]:
			case i < len(row):
				cells = append(cells, row[i])
			default:
				cells = append(cells, "")
			}
		}
		kept[r] = cells
	}
	return kept
}

// oneLine joins the words of a text with single spaces.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// trimLines drops the space at the ends of lines and of the text, and blank lines.
func trimLines(s string) string {
	var kept []string
	for line := range strings.Lines(s) {
		if line = strings.TrimFunc(line, unicode.IsSpace); line != "" {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// appendBounded adds text to a buffer unless that would be more than any document's text.
func appendBounded(b *strings.Builder, text string) error {
	if b.Len()+len(text) > maxTextBytes {
		return overLimit("it holds more than %d MiB of text", maxTextBytes>>20)
	}
	b.WriteString(text)
	return nil
}

// short is a text of at most n bytes, cut between characters.
func short(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// next is where the next block will begin, or the end of the text if none comes.
func (w *writer) next() int {
	if w.b.Len() == 0 {
		return 0
	}
	return w.b.Len() + len("\n\n")
}
