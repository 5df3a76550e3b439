package extract

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/xuri/excelize/v2"
)

// extracted is the document of content, which must be readable.
func extracted(t *testing.T, name, content string) Document {
	t.Helper()
	d, err := Extract(t.Context(), name, "", []byte(content))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

func wantText(t *testing.T, d Document, mediaType, want string) {
	t.Helper()
	if d.MediaType != mediaType || d.Text != want {
		t.Errorf("%s became\n%s\nwant %s\n%s", d.MediaType, d.Text, mediaType, want)
	}
}

func TestDOCX(t *testing.T) {
	p := func(properties, text string) string {
		return `<w:p><w:pPr>` + properties + `</w:pPr><w:r><w:t>` + text + `</w:t></w:r></w:p>`
	}
	cell := func(properties, text string) string {
		return `<w:tc><w:tcPr>` + properties + `</w:tcPr>` + p("", text) + `</w:tc>`
	}
	d := extracted(t, "x.docx", docxOf(
		p(`<w:pStyle w:val="berschrift2"/>`, "Setup")+
			p(`<w:pStyle w:val="Own"/>`, "Inherited")+
			p(`<w:outlineLvl w:val="0"/>`, "Outlined")+
			`<w:p><w:r><w:t>Plain </w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:hyperlink><w:r><w:t>and linked</w:t></w:r></w:hyperlink>`+
			`<w:r><w:instrText>PAGE</w:instrText><w:br/><w:t>next line &amp; more</w:t></w:r></w:p>`+
			p(`<w:numPr><w:ilvl w:val="0"/></w:numPr>`, "one")+p(`<w:numPr><w:ilvl w:val="1"/></w:numPr>`, "deeper")+
			`<w:tbl><w:tr>`+cell("", "Name")+cell("", "Age|years")+cell("", "City")+`</w:tr><w:tr>`+cell(`<w:gridSpan w:val="2"/>`, "Ann, 7")+cell("", "Oslo")+`</w:tr></w:tbl>`+
			p("", "end"),
		map[string]string{"word/footnotes.xml": `<w:footnotes xmlns:w="w"><w:footnote>` + p("", "a note") + `</w:footnote></w:footnotes>`}))
	wantText(t, d, typeDOCX, "## Setup\n\n## Inherited\n\n# Outlined\n\nPlain and linked\nnext line & more\n\n- one\n  - deeper\n\n"+
		"| Name | Age\\|years | City |\n| --- | --- | --- |\n| Ann, 7 |  | Oslo |\n\nend\n\na note")
}

func TestPPTX(t *testing.T) {
	slide := func(title, body string) string {
		return `<p:sld xmlns:p="p" xmlns:a="a"><p:sp><p:nvPr><p:ph type="body"/></p:nvPr>` + body + `</p:sp>` +
			`<p:sp><p:nvPr><p:ph type="title"/></p:nvPr><a:p><a:r><a:t>` + title + `</a:t></a:r></a:p></p:sp>` +
			`<p:sp><p:nvPr><p:ph type="sldNum"/></p:nvPr><a:p><a:r><a:t>7</a:t></a:r></a:p></p:sp></p:sld>`
	}
	d := extracted(t, "x.bin", zipped(map[string]string{
		"ppt/presentation.xml": `<p:presentation xmlns:p="p" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">` +
			`<p:sldIdLst><p:sldId id="256" r:id="rId2"/><p:sldId id="257" r:id="rId1"/></p:sldIdLst></p:presentation>`,
		"ppt/_rels/presentation.xml.rels":  fmt.Sprintf(relationships, officeRelation("rId1", "slide", "slides/slide1.xml")+officeRelation("rId2", "slide", "/ppt/slides/slide2.xml")),
		"ppt/slides/slide1.xml":            slide("Last", `<a:p><a:pPr lvl="1"/><a:r><a:t>deep</a:t></a:r></a:p>`),
		"ppt/slides/slide2.xml":            slide("First", `<a:p><a:r><a:t>po</a:t></a:r><a:r><a:t>int</a:t></a:r></a:p>`),
		"ppt/slides/_rels/slide2.xml.rels": fmt.Sprintf(relationships, officeRelation("r", "notesSlide", "../notesSlides/n.xml")),
		"ppt/notesSlides/n.xml":            `<p:notes xmlns:p="p" xmlns:a="a"><p:sp><a:p><a:r><a:t>say this</a:t></a:r></a:p></p:sp></p:notes>`,
	}))
	wantText(t, d, typePPTX, "## First\n\n- point\n\nsay this\n\n## Last\n\n  - deep")
	if len(d.Pages) != 2 || d.Pages[0] != 0 || d.Text[d.Pages[1]:] != "## Last\n\n  - deep" {
		t.Errorf("pages at %v", d.Pages)
	}
}

func TestODT(t *testing.T) {
	d := extracted(t, "x", zipped(map[string]string{
		"mimetype": typeODF + "text",
		"content.xml": `<?xml version="1.0"?><office:document-content xmlns:office="o" xmlns:text="t" xmlns:table="b"><office:text>` +
			`<text:h text:outline-level="2">Head</text:h><text:p>a<text:s text:c="3"/>b<text:line-break/>c<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>noted</text:p></text:note-body></text:note></text:p>` +
			`<text:list><text:list-item><text:p>item</text:p></text:list-item></text:list>` +
			`<table:table table:name="T"><table:table-row><table:table-cell><text:p>k</text:p></table:table-cell><table:table-cell><text:p>v</text:p></table:table-cell><table:table-cell table:number-columns-repeated="16000"/></table:table-row>` +
			`<table:table-row><table:table-cell table:number-columns-repeated="2"><text:p>x</text:p></table:table-cell></table:table-row></table:table></office:text></office:document-content>`,
	}))
	wantText(t, d, typeODF+"text", "## Head\n\nnoted\n\na   b\nc\n\n- item\n\n| k | v |\n| --- | --- |\n| x | x |")
}

func TestEPUB(t *testing.T) {
	d := extracted(t, "x.zip", zipped(map[string]string{
		"mimetype":               typeEPUB,
		"META-INF/container.xml": `<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>`,
		"OPS/book.opf": `<package xmlns:dc="d"><metadata><dc:title>A Book</dc:title></metadata><manifest><item id="b" href="two%20.xhtml" media-type="application/xhtml+xml"/>` +
			`<item id="a" href="one.xhtml" media-type="application/xhtml+xml"/><item id="c" href="c.css" media-type="text/css"/></manifest><spine><itemref idref="a"/><itemref idref="b"/><itemref idref="c"/></spine></package>`,
		"OPS/one.xhtml":  `<html><head><title>not this</title></head><body><h1>One</h1><p>It was <em>dark</em>.</p></body></html>`,
		"OPS/two .xhtml": `<html><body><h1>Two</h1><table><tr><th>a</th></tr><tr><td>b</td></tr></table></body></html>`,
	}))
	wantText(t, d, typeEPUB, "# A Book\n\n# One\n\nIt was *dark*.\n\n# Two\n\n| a |\n|---|\n| b |")
}

func TestXLSX(t *testing.T) {
	f := excelize.NewFile()
	defer f.Close()
	f.SetSheetName("Sheet1", "Prices")
	style, err := f.NewStyle(&excelize.Style{NumFmt: 14})
	if err != nil {
		t.Fatal(err)
	}
	for cell, value := range map[string]any{"B2": "Item", "C2": "Since", "D2": "Sum", "B3": "Lamp\nred", "C3": 45000, "D3": 12.5, "B5": "Late", "D5": true} {
		if err := f.SetCellValue("Prices", cell, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.SetCellStyle("Prices", "C3", "C3", style); err != nil {
		t.Fatal(err)
	}
	f.NewSheet("Hidden")
	f.SetCellValue("Hidden", "A1", "secret")
	f.SetSheetVisible("Hidden", false)
	var b bytes.Buffer
	if err := f.Write(&b); err != nil {
		t.Fatal(err)
	}
	wantText(t, extracted(t, "x", b.String()), typeXLSX,
		"## Prices\n\n| Item | Since | Sum |\n| --- | --- | --- |\n| Lamp red | 03-15-23 | 12.5 |\n| Late |  | TRUE |")

	var locked bytes.Buffer
	if err := f.Write(&locked, excelize.Options{Password: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Extract(t.Context(), "x.xlsx", "", locked.Bytes()); err == nil || !strings.Contains(err.Error(), "encrypted") {
		t.Errorf("an encrypted workbook: %v", err)
	}
}

// presentation is a presentation of one slide with notes.
func presentation(slide string) string {
	return zipped(map[string]string{
		"ppt/presentation.xml": `<p:presentation xmlns:p="p" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">` +
			`<p:sldIdLst><p:sldId id="256" r:id="rId1"/></p:sldIdLst></p:presentation>`,
		"ppt/_rels/presentation.xml.rels":  fmt.Sprintf(relationships, officeRelation("rId1", "slide", "slides/slide1.xml")),
		"ppt/slides/slide1.xml":            slide,
		"ppt/slides/_rels/slide1.xml.rels": fmt.Sprintf(relationships, officeRelation("r", "notesSlide", "../notesSlides/n.xml")),
		"ppt/notesSlides/n.xml":            slide,
	})
}

// book is an EPUB with one chapter.
func book(opf, chapter string) string {
	return zipped(map[string]string{"mimetype": typeEPUB, "OPS/one.xhtml": chapter, "OPS/book.opf": opf,
		"META-INF/container.xml": `<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>`})
}

const (
	oneChapter = `<package xmlns:dc="d"><metadata><dc:title>A Book</dc:title></metadata><manifest><item id="a" href="one.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>`
	oneSheet   = `<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>`
)

// FuzzOffice changes parts of documents inside valid zips, which a fuzzer would not get past by itself.
func FuzzOffice(f *testing.F) {
	kinds := []func(xml string) string{
		func(xml string) string { return docxOf(xml, nil) },
		func(xml string) string {
			return docxOf("", map[string]string{"word/document.xml": xml, "word/styles.xml": xml, "word/footnotes.xml": xml})
		},
		func(xml string) string {
			return zipped(map[string]string{"mimetype": typeODF + "text", "content.xml": xml})
		},
		func(xml string) string {
			return zipped(map[string]string{"mimetype": typeODF + "spreadsheet", "content.xml": xml})
		},
		func(xml string) string {
			return zipped(map[string]string{"mimetype": typeEPUB, "META-INF/container.xml": xml})
		},
		func(xml string) string { return book(xml, "<p>words</p>") },
		func(xml string) string { return book(oneChapter, xml) },
		presentation,
		func(xml string) string {
			return zipped(map[string]string{"ppt/presentation.xml": xml, "_rels/.rels": xml})
		},
		func(xml string) string {
			return zipped(map[string]string{"xl/workbook.xml": xml, "xl/worksheets/sheet1.xml": xml})
		},
		func(xml string) string {
			return zipped(map[string]string{"xl/workbook.xml": oneSheet, "xl/worksheets/sheet1.xml": xml, "xl/sharedStrings.xml": xml, "xl/styles.xml": xml,
				"xl/_rels/workbook.xml.rels": fmt.Sprintf(relationships, officeRelation("rId1", "worksheet", "worksheets/sheet1.xml")),
				"[Content_Types].xml":        `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/></Types>`})
		},
	}
	for kind := range kinds {
		f.Add(kind, `<a xmlns:w="w"><w:p><w:t>x</w:t></w:p><w:tbl><w:tr><w:tc><w:gridSpan w:val="3"/></w:tc></w:tr></w:tbl></a>`)
		f.Add(kind, `<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`)
		f.Add(kind, `<table><table-row><table-cell number-columns-repeated="9"/></table-row></table>`)
		f.Add(kind, `<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1048576"><c r="XFD1" t="s"><v>1</v></c><c r="A2" t="inlineStr"><is><t>x</t></is></c></row></sheetData></worksheet>`)
		f.Add(kind, `<p:sld xmlns:p="p" xmlns:a="a"><p:sp><p:nvPr><p:ph type="title"/></p:nvPr><a:p><a:pPr lvl="1"/><a:r><a:t>x</a:t></a:r></a:p></p:sp></p:sld>`)
		f.Add(kind, oneChapter)
		f.Add(kind, `<html><body><h1>One</h1><table><tr><td rowspan=9>x</table><pre>`+"```"+`x</pre></body></html>`)
	}
	f.Fuzz(func(t *testing.T, kind int, xml string) {
		if kind < 0 || kind >= len(kinds) {
			return
		}
		if d, err := Extract(t.Context(), "x", "", []byte(kinds[kind](xml))); err == nil {
			checkStorable(t, d)
		}
	})
}
