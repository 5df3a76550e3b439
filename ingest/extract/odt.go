package extract

import (
	"strconv"
	"strings"
)

const typeODF = "application/vnd.oasis.opendocument."

// odf reads an OpenDocument text, presentation or spreadsheet (OASIS ODF 1.2): headings, paragraphs, lists,
// tables and notes.
func odf(p *parts, mediaType string) (Document, error) {
	if p.has("META-INF/manifest.xml") {
		encrypted := false
		err := p.walk("META-INF/manifest.xml", func(w *xmlWalker) error {
			encrypted = encrypted || w.at("encryption-data")
			return nil
		})
		if err != nil {
			return Document{}, err
		}
		if encrypted {
			return Document{}, &EncryptedError{mediaType}
		}
	}
	var o odfReader
	if err := p.walk("content.xml", o.visit); err != nil {
		return Document{}, err
	}
	return o.out.document(mediaType)
}

type odfReader struct {
	out    writer
	texts  []*strings.Builder // of the open paragraphs; a note's stands inside another
	level  int                // of the open heading
	lists  int                // open ones
	tables int

	rows   [][]string
	cell   strings.Builder
	repeat int // how often the open cell counts
	name   string
}

// unreadODF are elements whose text is not the document's.
var unreadODF = map[string]bool{"tracked-changes": true, "annotation": true, "note-citation": true, "table-of-content-source": true, "forms": true}

func (o *odfReader) visit(w *xmlWalker) error {
	switch {
	case w.start != nil && unreadODF[w.start.Name.Local]:
		return w.skip()
	case w.at("h"):
		o.level, _ = strconv.Atoi(w.attr("outline-level"))
		o.level = max(o.level, 1)
		o.texts = append(o.texts, &strings.Builder{})
	case w.at("p"):
		o.texts = append(o.texts, &strings.Builder{})
	case w.end == "h", w.end == "p":
		o.endParagraph(w.end == "h")
	case w.at("list"):
		o.lists++
	case w.end == "list":
		o.lists--
	case w.at("page"): // of a presentation
		o.out.heading(2, w.attr("name"))
	case len(o.texts) > 0 && w.start != nil:
		switch w.start.Name.Local {
		case "s":
			n, _ := strconv.Atoi(w.attr("c"))
			return o.write(strings.Repeat(" ", min(max(n, 1), 64)))
		case "tab":
			return o.write(" ")
		case "line-break":
			return o.write("\n")
		}
	case w.text != "" && len(o.texts) > 0:
		return o.write(w.text)
	}
	return o.visitTable(w)
}

func (o *odfReader) write(text string) error {
	return appendBounded(o.texts[len(o.texts)-1], text)
}

func (o *odfReader) endParagraph(heading bool) {
	last := len(o.texts) - 1
	text := o.texts[last].String()
	o.texts = o.texts[:last]
	switch {
	case o.tables > 0:
		o.cell.WriteString(text + "\n")
	case heading:
		o.out.heading(o.level, text)
	case o.lists > 0:
		o.out.item(o.lists-1, text)
	default:
		o.out.paragraph(text)
	}
}

func (o *odfReader) visitTable(w *xmlWalker) error {
	switch {
	case w.at("table"):
		if o.tables++; o.tables == 1 {
			o.name = w.attr("name")
		}
	case w.end == "table":
		if o.tables--; o.tables == 0 {
			o.out.table(o.rows)
			o.rows = nil
		}
	case o.tables != 1:
	case w.at("table-row"):
		o.rows = append(o.rows, nil)
	case w.at("table-cell"), w.at("covered-table-cell"):
		o.repeat, _ = strconv.Atoi(w.attr("number-columns-repeated"))
		o.cell.Reset()
	case (w.end == "table-cell" || w.end == "covered-table-cell") && len(o.rows) > 0:
		text := o.cell.String()
		o.cell.Reset()
		times := min(max(o.repeat, 1), 256) // spreadsheets end rows with one empty cell repeated to the last column
		if strings.TrimSpace(text) == "" {
			times = min(times, 32)
		}
		last := len(o.rows) - 1
		for range times {
			o.rows[last] = append(o.rows[last], text)
		}
		return o.out.count(times)
	}
	return o.out.err
}
