package extract

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// checkStorable holds for every document that Extract returns.
func checkStorable(t *testing.T, d Document) {
	t.Helper()
	if !utf8.ValidString(d.Text) || strings.ContainsRune(d.Text, 0) {
		t.Errorf("the text cannot be stored: %q", d.Text)
	}
	at := 0
	for _, h := range d.Outline {
		if h.Start < at || h.End < h.Start || h.End > len(d.Text) {
			t.Fatalf("heading %+v in %d bytes after %d", h, len(d.Text), at)
		}
		at = h.End
	}
	at = 0
	for _, p := range d.Pages {
		if p < at || p > len(d.Text) {
			t.Fatalf("page at %d in %d bytes after %d", p, len(d.Text), at)
		}
		at = p
	}
	at = 0
	for _, b := range d.Boxes {
		if b.Start < at || b.End < b.Start || b.End > len(d.Text) || b.Page < 1 || b.Page > len(d.Pages) {
			t.Fatalf("box %+v in %d bytes after %d", b, len(d.Text), at)
		}
		at = b.End
	}
}

func TestCSV(t *testing.T) {
	wantText(t, extracted(t, "x.csv", "name;note\nAnn;\"a; \"\"b\"\"\nc\"\nBob;\n"), typeCSV,
		"| name | note |\n| --- | --- |\n| Ann | a; \"b\" c |\n| Bob |  |")
	wantText(t, extracted(t, "x.tsv", "a\tb\n1\t2|3\n\t\n"), typeCSV, "| a | b |\n| --- | --- |\n| 1 | 2\\|3 |")
}

func TestJSON(t *testing.T) {
	wantText(t, extracted(t, "x", `[{"id": 1, "name": "Ann", "tags": ["a", {"deep": null, "n": 1.50}]}, {"id": 2, "on": true}]`), typeJSON,
		"id: 1\nname: Ann\ntags[0]: a\ntags[1].n: 1.50\n\nid: 2\non: true\n\n\n")
	wantText(t, extracted(t, "x", "{\"a\": \"one\"}\n{\"a\": \"two\\nlines\"}\n"), typeNDJSON, "a: one\n\na: two\nlines\n\n")
}

func TestSourceCodeKeepsItsText(t *testing.T) {
	source := "package x\n\nimport \"fmt\"\n\n// A says.\nfunc A(b int) {\n\tfmt.Println(b)\n}\n\ntype T struct {\n\tfunc_ int\n}\n"
	d := extracted(t, "dir/x.go", source)
	if d.Text != source || d.Language != "go" || d.MediaType != typeCode || d.Markdown {
		t.Errorf("got %+v", d)
	}
	if len(d.Outline) != 2 || d.Outline[0].Title != "func A(b int)" || d.Outline[1].Title != "type T struct" || d.Text[d.Outline[0].Start:d.Outline[0].End] != "// A says.\nfunc A(b int) {" {
		t.Errorf("outline %+v", d.Outline)
	}
	for name, want := range map[string]string{"a.PY": "python", "Makefile": "make", "run": "shell", "notes.txt": ""} {
		if got := extracted(t, name, "#!/bin/sh\necho words\n").Language; name != "notes.txt" && got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	c := extracted(t, "x.c", "#include <a.h>\n\nstatic int add(int a, int b)\n{\n\treturn a + b;\n}\nint later(void);\n")
	if len(c.Outline) != 1 || c.Outline[0].Title != "static int add(int a, int b)" {
		t.Errorf("outline %+v", c.Outline)
	}
}

const mailSource = "Return-Path: <a@b.example>\r\nMessage-ID: <1@b.example>\r\nFrom: =?utf-8?q?J=C3=B6rg?= <j@b.example>\r\nTo: c@d.example\r\n" +
	"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=AA\r\n\r\n" +
	"--AA\r\nContent-Type: multipart/alternative; boundary=BB\r\n\r\n" +
	"--BB\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nplain=FC copy\r\n" +
	"--BB\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nPHA+SGVsbG8gPGI+eW91PC9iPjwv\r\ncD4=\r\n--BB--\r\n" +
	"--AA\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=\"t.csv\"\r\n\r\nk,v\n1,2\r\n" +
	"--AA\r\nContent-Type: image/png\r\nContent-Disposition: attachment; filename=\"p.png\"\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--AA--\r\n"

func TestMail(t *testing.T) {
	d := extracted(t, "x", mailSource)
	want := "# Grüße\n\nFrom: Jörg <j@b.example>\nTo: c@d.example\n\nHello **you**\n\n## Attachment t.csv\n\n| k | v |\n| --- | --- |\n| 1 | 2 |\n\n## Attachment p.png\n\n(not read: unsupported media type image/png"
	if d.MediaType != typeMail || !strings.HasPrefix(d.Text, want) {
		t.Errorf("%s\n%s\nwant\n%s", d.MediaType, d.Text, want)
	}
	cut := extracted(t, "x", mailSource[:len(mailSource)-150])
	if !strings.Contains(cut.Text, "Hello **you**") {
		t.Errorf("a mail that was cut became %q", cut.Text)
	}
}

func TestMbox(t *testing.T) {
	d := extracted(t, "x", "From a@b Mon Jan  2 10:00:00 2006\nFrom: a@b\nSubject: one\n\nfirst\n\n>From here on\n\nFrom c@d Mon Jan  2 11:00:00 2006\nFrom: c@d\nSubject: two\n\nsecond From x\n")
	wantText(t, d, typeMbox, "# one\n\nFrom: a@b\n\nfirst\n\nFrom here on\n\n# two\n\nFrom: c@d\n\nsecond From x")
}

func TestCompressedDocumentsAreReadAsWhatTheyAre(t *testing.T) {
	d := extracted(t, "notes.md.gz", gzipped("# Title\n\ntext"))
	if d.MediaType != typeMarkdown || d.Text != "# Title\n\ntext" {
		t.Errorf("got %+v", d)
	}
}

func FuzzText(f *testing.F) {
	f.Add("x", mailSource)
	f.Add("x.csv", "a,b\n\"1,2")
	f.Add("x.json", `{"a": [1, {"b": "c"}]}`)
	f.Add("x.ndjson", "{\"a\":1}\n[2]\n")
	f.Add("x.go", "func A() {\n\tx()\n}\n")
	f.Add("x", "From a@b Mon Jan  2 10:00:00 2006\nSubject: one\n\nfirst\n\nFrom c@d Mon Jan  2 11:00:00 2006\nX: y\n\nz")
	f.Add("x.gz", gzipped("words"))
	f.Fuzz(func(t *testing.T, name, content string) {
		if d, err := Extract(t.Context(), name, "", []byte(content)); err == nil {
			checkStorable(t, d)
		}
	})
}
