package extract

import (
	"path"
	"strconv"
	"strings"
)

const typeDOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

// docx reads a Word document (ECMA-376): paragraphs, headings by their styles, lists, tables, and notes at the
// end. Deleted text, field codes, page headers and footers are left out.
func docx(p *parts) (Document, error) {
	main, err := p.mainPart("officeDocument", "word/document.xml")
	if err != nil {
		return Document{}, err
	}
	relations, err := p.relations(main)
	if err != nil {
		return Document{}, err
	}
	d := docxReader{levels: map[string]int{}}
	notes := []string{}
	for _, r := range relations {
		switch r.kind {
		case "styles":
			if err := d.readStyles(p, r.target); err != nil {
				return Document{}, err
			}
		case "footnotes", "endnotes":
			notes = append(notes, r.target)
		}
	}
	if err := p.walk(main, d.visit); err != nil {
		return Document{}, err
	}
	for _, part := range notes {
		if p.has(part) {
			if err := p.walk(part, d.visit); err != nil {
				return Document{}, err
			}
		}
	}
	return d.out.document(typeDOCX)
}

// mainPart is the part that the package names as its content.
func (p *parts) mainPart(kind, usual string) (string, error) {
	relations, err := p.relations("")
	if err != nil {
		return "", err
	}
	for _, r := range relations {
		if r.kind == kind && p.has(r.target) {
			return r.target, nil
		}
	}
	return path.Clean(usual), nil
}

type docxReader struct {
	out    writer
	levels map[string]int // heading level of a style, 1…6

	text  strings.Builder // of the paragraph being read
	style string
	depth int // of a list item, −1 outside
	level int // of the paragraph itself, 0 for none

	tables int        // open ones; only the outermost makes rows
	rows   [][]string // of the outermost table
	cell   strings.Builder
	span   int // columns of the present cell
}

// readStyles finds out which styles are headings: by outline level, else by their built-in names.
func (d *docxReader) readStyles(p *parts, part string) error {
	if !p.has(part) {
		return nil
	}
	id, based := "", map[string]string{}
	err := p.walk(part, func(w *xmlWalker) error {
		switch {
		case w.at("style"):
			id = w.attr("styleId")
		case w.at("name"):
			name := strings.ToLower(w.attr("val"))
			if rest, ok := strings.CutPrefix(name, "heading "); ok {
				if n, err := strconv.Atoi(rest); err == nil && n >= 1 && n <= 9 {
					d.levels[id] = min(n, 6)
				}
			} else if name == "title" {
				d.levels[id] = 1
			}
		case w.at("basedOn"):
			based[id] = w.attr("val")
		case w.at("outlineLvl"):
			if n, err := strconv.Atoi(w.attr("val")); err == nil && n >= 0 && n < 9 {
				d.levels[id] = min(n+1, 6)
			}
		}
		return nil
	})
	for style := range based {
		for up, hops := style, 0; up != "" && hops < 10; up, hops = based[up], hops+1 {
			if level := d.levels[up]; level > 0 {
				d.levels[style] = level
				break
			}
		}
	}
	return err
}

// unread are elements whose text is not the document's.
var unreadWord = map[string]bool{"del": true, "moveFrom": true, "instrText": true, "delText": true, "Fallback": true, "pict": true}

func (d *docxReader) visit(w *xmlWalker) error {
	switch {
	case w.start != nil && unreadWord[w.start.Name.Local]:
		return w.skip()
	case w.at("p"):
		d.style, d.depth, d.level = "", -1, 0
	case w.at("pStyle"):
		d.style = w.attr("val")
	case w.at("outlineLvl") && w.inside("pPr"):
		if n, err := strconv.Atoi(w.attr("val")); err == nil && n >= 0 && n < 9 {
			d.level = min(n+1, 6)
		}
	case w.at("ilvl"):
		d.depth, _ = strconv.Atoi(w.attr("val"))
	case w.at("numPr"):
		d.depth = max(d.depth, 0)
	case w.at("tab") && !w.inside("pPr"):
		d.text.WriteByte(' ')
	case w.at("br"), w.at("cr"):
		d.text.WriteByte('\n')
	case w.at("noBreakHyphen"):
		d.text.WriteByte('-')
	case w.textOf("t"):
		return appendBounded(&d.text, w.text)
	case w.end == "p":
		d.endParagraph()
	default:
		return d.visitTable(w)
	}
	return nil
}

func (d *docxReader) visitTable(w *xmlWalker) error {
	switch {
	case w.at("tbl"):
		d.tables++
	case w.end == "tbl":
		if d.tables--; d.tables == 0 {
			d.out.table(d.rows)
			d.rows = nil
		}
	case d.tables != 1:
	case w.at("tr"):
		d.rows = append(d.rows, nil)
	case w.at("gridSpan"):
		d.span, _ = strconv.Atoi(w.attr("val"))
	case w.end == "tc" && len(d.rows) > 0:
		last := len(d.rows) - 1
		d.rows[last] = append(d.rows[last], d.cell.String())
		for range min(d.span, 63) - 1 { // what follows stays under its own heading
			d.rows[last] = append(d.rows[last], "")
		}
		d.cell.Reset()
		d.span = 0
		return d.out.count(1)
	}
	return d.out.err
}

func (d *docxReader) endParagraph() {
	text := d.text.String()
	d.text.Reset()
	level := d.level
	if level == 0 {
		level = d.levels[d.style]
	}
	switch {
	case d.tables > 0:
		d.cell.WriteString(text)
		d.cell.WriteByte('\n')
	case level > 0:
		d.out.heading(level, text)
	case d.depth >= 0:
		d.out.item(d.depth, text)
	default:
		d.out.paragraph(text)
	}
}
