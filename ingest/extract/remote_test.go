package extract

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// TestNothingIsFetched: a document that names pictures, style sheets, frames, templates and entities elsewhere is read
// without a connection to there.
func TestNothingIsFetched(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	var calls atomic.Int32
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			c.Close()
		}
	}()
	at := "http://" + listener.Addr().String() + "/x"
	external := fmt.Sprintf(`<Relationship Id="r9" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/%%s" Target="%s" TargetMode="External"/>`, at)
	page := fmt.Sprintf(`<html><head><title>Words</title><link rel=stylesheet href=%[1]q><link rel=preload href=%[1]q as=script><base href=%[1]q>
		<script src=%[1]q></script><style>@import url(%[1]q);</style><meta http-equiv=refresh content="0;url=%[1]s"></head>
		<body background=%[1]q><h1>Words</h1><p>Words of a page.</p><img src=%[1]q srcset="%[1]s 2x"><iframe src=%[1]q></iframe><object data=%[1]q></object>
		<embed src=%[1]q><video src=%[1]q poster=%[1]q></video><svg><image href=%[1]q /><use href=%[1]q /></svg></body></html>`, at)
	for name, content := range map[string]string{
		"page.html":  page,
		"page.xhtml": fmt.Sprintf(`<?xml version="1.0"?><?xml-stylesheet href=%[1]q?><!DOCTYPE html SYSTEM %[1]q><html xmlns="http://www.w3.org/1999/xhtml"><body><p>Words</p></body></html>`, at),
		"image.svg":  fmt.Sprintf(`<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM %[1]q>]><svg xmlns="http://www.w3.org/2000/svg"><image href=%[1]q/><text>Words &x;</text></svg>`, at),
		"note.md":    fmt.Sprintf("# Words\n\n![a picture](%s) of words\n\n%s", at, page),
		"mail.eml":   "From: a@b.example\r\nSubject: Words\r\nMessage-ID: <1@b>\r\nContent-Type: text/html\r\n\r\n" + page,
		"body.eml":   fmt.Sprintf("From: a@b.example\r\nSubject: Words\r\nMessage-ID: <1@b>\r\nContent-Type: message/external-body; access-type=URL; URL=%q\r\n\r\nWords\r\n", at),
		"doc.docx": docxOf(`<w:p><w:r><w:t>Words</w:t></w:r></w:p>`, map[string]string{"word/_rels/document.xml.rels": fmt.Sprintf(relationships,
			fmt.Sprintf(external, "attachedTemplate")+fmt.Sprintf(external, "image")+fmt.Sprintf(external, "styles")+fmt.Sprintf(external, "footnotes"))}),
		"slides.pptx": presentation(fmt.Sprintf(`<p:sld xmlns:p="p" xmlns:a="a" xmlns:r="r"><a:blip r:link="r9" href=%q/><a:p><a:r><a:t>Words</a:t></a:r></a:p></p:sld>`, at)),
		"book.epub":   book(strings.Replace(oneChapter, `</manifest>`, fmt.Sprintf(`<item id="b" href=%q media-type="application/xhtml+xml"/></manifest>`, at), 1), page),
		"text.odt": zipped(map[string]string{"mimetype": typeODF + "text",
			"content.xml": fmt.Sprintf(`<office:document-content xmlns:office="o" xmlns:text="t" xmlns:xlink="x"><text:section><text:section-source xlink:href=%q/></text:section><text:p>Words</text:p></office:document-content>`, at)}),
		"list.json": fmt.Sprintf(`{"$ref":%q,"text":"Words"}`, at),
		"table.csv": fmt.Sprintf("a,b\nWords,=WEBSERVICE(\"%s\")\n", at),
		"page.pdf": strings.Replace(pdfOf(prose(700, "Words on a page")), "/Type /Catalog",
			fmt.Sprintf("/Type /Catalog /OpenAction << /S /URI /URI (%s) >> /AA << /WC << /S /SubmitForm /F << /FS /URL /F (%s) >> >> >>", at, at), 1),
	} {
		d, err := Extract(t.Context(), name, "", []byte(content))
		if err == nil && !strings.Contains(d.Text, "Words") {
			t.Errorf("%s became %q", name, d.Text)
		}
		if err != nil {
			t.Logf("%s is refused: %v", name, err)
		}
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Read(make([]byte, 1)) // until the other side, which counts, has closed it
	if n := calls.Load(); n == 0 {
		t.Error("the listener does not count connections")
	}
}

// TestEntitiesAreNotResolved: what an entity stands for comes neither from a file nor from the document itself, whatever
// the format that is made of XML.
func TestEntitiesAreNotResolved(t *testing.T) {
	const (
		file  = `<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>`
		laugh = `<!DOCTYPE d [<!ENTITY a "ha ha ha ha ha ha ha ha "><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY x "&c;&c;&c;&c;&c;&c;&c;&c;">]>`
	)
	for _, doctype := range []string{file, laugh} {
		for name, content := range map[string]string{
			"a.docx": zipped(map[string]string{"word/document.xml": doctype + `<d><t>&x;</t></d>`}),
			"a.pptx": zipped(map[string]string{"ppt/presentation.xml": doctype + `<p>&x;</p>`}),
			"a.xlsx": zipped(map[string]string{"xl/workbook.xml": doctype + `<workbook>&x;</workbook>`}),
			"a.epub": book(doctype+`<package><title>&x;</title></package>`, "<p>words</p>"),
			"b.epub": zipped(map[string]string{"mimetype": typeEPUB, "META-INF/container.xml": doctype + `<container>&x;</container>`}),
			"a.odt":  zipped(map[string]string{"mimetype": typeODF + "text", "content.xml": doctype + `<d><p>&x;</p></d>`}),
			"a.svg":  `<?xml version="1.0"?>` + doctype + `<svg xmlns="http://www.w3.org/2000/svg"><text>words &x;</text></svg>`,
			"a.html": doctype + `<html><body><p>words &x;</p></body></html>`,
		} {
			d, err := Extract(t.Context(), name, "", []byte(content))
			if strings.Contains(d.Text, "root:") || strings.Count(d.Text, "ha ha") > 8 {
				t.Errorf("%s: an entity was resolved: %.200q", name, d.Text)
			}
			if isXML := name != "a.svg" && name != "a.html"; isXML && (err == nil || !strings.Contains(err.Error(), "entities")) {
				t.Errorf("%s: %v, want a reason that names entities", name, err)
			}
		}
	}
}
