package extract

import (
	"strconv"
	"strings"
)

const typePPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"

// pptx reads a presentation (ECMA-376) in the order of its slides: titles as headings, text as lists, tables,
// and the speaker's notes. Every slide is a page.
func pptx(p *parts) (Document, error) {
	main, err := p.mainPart("officeDocument", "ppt/presentation.xml")
	if err != nil {
		return Document{}, err
	}
	relations, err := p.relations(main)
	if err != nil {
		return Document{}, err
	}
	var slides []string
	err = p.walk(main, func(w *xmlWalker) error {
		if w.at("sldId") {
			if slide := relations[w.relationID()].target; p.has(slide) {
				slides = append(slides, slide)
			}
		}
		return nil
	})
	if err != nil {
		return Document{}, err
	}
	var out writer
	var pages []int
	for i, slide := range slides {
		pages = append(pages, out.next())
		if err := readSlide(p, slide, i+1, &out); err != nil {
			return Document{}, err
		}
	}
	d, err := out.document(typePPTX)
	d.Pages = pages
	return d, err
}

func readSlide(p *parts, slide string, number int, out *writer) error {
	s := slideReader{out: out, fallback: "Slide " + strconv.Itoa(number)}
	if err := p.walk(slide, s.visit); err != nil {
		return err
	}
	s.flush()
	relations, err := p.relations(slide)
	if err != nil {
		return err
	}
	for _, r := range relations {
		if r.kind != "notesSlide" || !p.has(r.target) {
			continue
		}
		notes := slideReader{out: out, notes: true}
		if err := p.walk(r.target, notes.visit); err != nil {
			return err
		}
		notes.flush()
	}
	return nil
}

// slideReader collects the shapes of a slide, so that its title can come first wherever it stands.
type slideReader struct {
	out      *writer
	fallback string // title of a slide without one
	notes    bool

	kind   string // of the placeholder that the shape fills
	title  string
	blocks []slideBlock

	text  strings.Builder
	level int

	rows [][]string
	cell strings.Builder
}

// slideBlock is an item of a list, or a table.
type slideBlock struct {
	text  string
	level int
	rows  [][]string
}

func (s *slideReader) visit(w *xmlWalker) error {
	switch {
	case w.at("Fallback"):
		return w.skip()
	case w.at("sp"):
		s.kind = ""
	case w.at("ph"):
		s.kind = w.attr("type")
	case w.at("pPr"):
		s.level, _ = strconv.Atoi(w.attr("lvl"))
	case w.at("br"):
		s.text.WriteByte(' ')
	case w.textOf("t"):
		return appendBounded(&s.text, w.text)
	case w.end == "p":
		s.endParagraph(w.inside("tbl"))
	case w.at("tbl"):
		s.rows = nil
	case w.at("tr"):
		s.rows = append(s.rows, nil)
	case w.end == "tc" && len(s.rows) > 0:
		last := len(s.rows) - 1
		s.rows[last] = append(s.rows[last], s.cell.String())
		s.cell.Reset()
		return s.out.count(1)
	case w.end == "tbl":
		s.blocks = append(s.blocks, slideBlock{rows: s.rows})
	}
	return nil
}

func (s *slideReader) endParagraph(inTable bool) {
	text := oneLine(s.text.String())
	s.text.Reset()
	level := s.level
	s.level = 0
	switch {
	case text == "" || s.kind == "sldNum" || s.kind == "dt" || s.kind == "ftr" || s.kind == "hdr" || s.kind == "sldImg":
	case inTable:
		s.cell.WriteString(text + " ")
	case !s.notes && (s.kind == "title" || s.kind == "ctrTitle"):
		s.title = oneLine(s.title + " " + text)
	default:
		s.blocks = append(s.blocks, slideBlock{text: text, level: level})
	}
}

// flush writes the slide, or its notes as prose.
func (s *slideReader) flush() {
	if s.notes {
		for _, b := range s.blocks {
			s.out.paragraph(b.text)
		}
		return
	}
	if s.title == "" && len(s.blocks) == 0 {
		return
	}
	if s.title == "" {
		s.title = s.fallback
	}
	s.out.heading(2, s.title)
	for _, b := range s.blocks {
		if b.rows != nil {
			s.out.table(b.rows)
			continue
		}
		s.out.item(b.level, b.text)
	}
}
