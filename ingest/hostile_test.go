package ingest_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lessrag/cmd/api/postgres/pgtest"
	"lessrag/ingest"
)

// hostile is a file made to hurt, and a word of the reason that must be given for it.
type hostile struct {
	name    string
	content []byte
	reason  string
}

// hostileFiles are more than thirty, each another way.
func hostileFiles(t *testing.T) []hostile {
	t.Helper()
	zeros := make([]byte, 1<<20)
	spaces := bytes.Repeat([]byte(" "), 1<<20)
	gz := func(write func(*gzip.Writer)) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		write(w)
		w.Close()
		return b.Bytes()
	}
	repeated := func(part []byte, n int) []byte {
		return gz(func(w *gzip.Writer) {
			for range n {
				w.Write(part)
			}
		})
	}
	tarOf := func(headers ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			body := h.Linkname
			if h.Typeflag == 0 {
				h.Size, h.Linkname = int64(len(body)), ""
			}
			w.WriteHeader(&h)
			if h.Typeflag == 0 {
				w.Write([]byte(body))
			}
		}
		w.Close()
		return b.Bytes()
	}
	docx := func(xml string) []byte { return zipOf(t, [2]string{"word/document.xml", xml}) }
	nested := zipOf(t, [2]string{"deep.txt", "words"})
	for range 6 {
		nested = zipOf(t, [2]string{"in.zip", string(nested)})
	}
	bombs := make([][2]string, 64)
	for i := range bombs {
		bombs[i] = [2]string{fmt.Sprint(i, ".txt"), string(zeros)}
	}
	many := make([][2]string, 20_000)
	for i := range many {
		many[i] = [2]string{strconv.Itoa(i), ""}
	}
	pdf := func(body string) []byte { return []byte("%PDF-1.4\n" + body + "\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n") }
	deflated := func(content []byte, n int) []byte {
		var b bytes.Buffer
		w := zlib.NewWriter(&b)
		for range n {
			w.Write(content)
		}
		w.Close()
		return b.Bytes()
	}
	bomb := deflated(deflated(spaces, 1024), 1) // a gigabyte in five kilobytes
	streams := pdf(fmt.Sprintf("1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n"+
		"3 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R >>\nendobj\n"+
		"4 0 obj\n<< /Length %d /Filter [/FlateDecode /FlateDecode] >>\nstream\n%s\nendstream\nendobj", len(bomb), bomb))
	locked := append([]byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), []byte("E\x00n\x00c\x00r\x00y\x00p\x00t\x00e\x00d\x00P\x00a\x00c\x00k\x00a\x00g\x00e\x00")...)
	return []hostile{
		{"zeros.txt.gz", repeated(zeros, 1024), "unpacks to more than"},
		{"spaces.txt.gz", repeated(spaces, 200), "bomb"},
		{"bomb.zip", zipOf(t, bombs...), "bomb"},
		{"bomb.tar.gz", repeated(append(tarOf(tar.Header{Name: "a", Linkname: string(zeros)})[:512], zeros...), 300), "bomb"},
		{"bomb.docx", docx(`<w:document><w:t>` + strings.Repeat(" ", 64<<20) + `</w:t></w:document>`), "bomb"},
		{"nested.zip", nested, "inside each other"},
		{"entries.zip", zipOf(t, many...), "entries"},
		{"up.zip", zipOf(t, [2]string{"../../etc/passwd", "words"}), ".."},
		{"absolute.zip", zipOf(t, [2]string{"/etc/passwd", "words"}), "absolute"},
		{"nul.zip", zipOf(t, [2]string{"a\x00b", "words"}), "NUL"},
		{"link.tar", tarOf(tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}), "link"},
		{"hardlink.tar", tarOf(tar.Header{Name: "link", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}), "link"},
		{"device.tar", tarOf(tar.Header{Name: "null", Typeflag: tar.TypeChar}), "no file"},
		{"xxe.docx", docx(`<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><d><t>&x;</t></d>`), "entities"},
		{"laughs.docx", docx(`<!DOCTYPE d [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><d><t>&b;</t></d>`), "entities"},
		{"deep.docx", docx(strings.Repeat("<a>", 100_000)), "inside each other"},
		{"attributes.docx", docx("<d " + strings.Repeat(`a="" `, 4<<20)), "tag"},
		{"truncated.docx", docx("<d>words</d>")[:60], "truncated"},
		{"cut.docx", docx(`<d><t>words`), "XML"},
		{"repeat.ods", zipOf(t, [2]string{"mimetype", "application/vnd.oasis.opendocument.spreadsheet"}, [2]string{"content.xml", "<d><table>" +
			strings.Repeat(`<table-row><table-cell number-columns-repeated="1000000"><p>x</p></table-cell></table-row>`, 20_000) + "</table></d>"}), "cells"},
		{"xxe.epub", zipOf(t, [2]string{"mimetype", "application/epub+zip"}, [2]string{"META-INF/container.xml", `<!DOCTYPE c [<!ENTITY x SYSTEM "file:///etc/passwd">]><container>&x;</container>`}), "entities"},
		{"wide.xlsx", zipOf(t, [2]string{"xl/workbook.xml", `<!DOCTYPE w [<!ENTITY x "y">]><workbook/>`}), "entities"},
		{"locked.docx", locked, "encrypted"},
		{"pages.pdf", pdf("1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [] /Count 100000 >>\nendobj"), "pages"},
		{"streams.pdf", streams, "text layer"},
		{"cut.pdf", []byte("%PDF-1.7\n1 0 obj\n<< /Type /Catalog"), "damaged"},
		{"empty.txt", nil, "no text"},
		{"nothing.md", bytes.Repeat([]byte(" \n"), 1<<18), "no text"},
		{"picture.txt", []byte("\x89PNG\r\n\x1a\n not what it is called"), "unsupported media type image/png"},
		{"program.md", append([]byte("\x7fELF"), zeros[:1000]...), "unsupported"},
		{"deep.html", []byte("<html>" + strings.Repeat("<div>", 200_000) + "words"), "HTML"},
		{"deep.json", []byte(strings.Repeat("[", 5000) + "1" + strings.Repeat("]", 5000)), "deep"},
	}
}

// TestHostileFilesEachGetAReason: within ten seconds, in bounded memory, and the file after them is read.
func TestHostileFilesEachGetAReason(t *testing.T) {
	files := hostileFiles(t)
	if len(files) < 30 {
		t.Fatalf("%d files", len(files))
	}
	options := smallOptions
	options.MaxBytes = 64 << 20
	s, err := ingest.New(pgtest.New(t), &hashEmbedder{}, words{}, options)
	if err != nil {
		t.Fatal(err)
	}
	start(t, s)
	await(t, s, submitAny(t, s, "warm", ingest.File{Name: "x.pdf", Content: []byte("%PDF-1.7")}).IngestionID) // PDFium is compiled once
	debug.FreeOSMemory()
	before := resident(t)
	ctx, stop := context.WithCancel(t.Context())
	var peak atomic.Int64
	go func() {
		for ctx.Err() == nil {
			peak.Store(max(peak.Load(), resident(t)))
			time.Sleep(5 * time.Millisecond)
		}
	}()
	for _, h := range files {
		began := time.Now()
		p := await(t, s, submitAny(t, s, "c", ingest.File{Name: h.name, Content: h.content}).IngestionID)
		took := time.Since(began)
		if grown := (resident(t) - before) >> 20; grown > 256 {
			t.Logf("after %s: %d MiB more", h.name, grown)
		}
		reasons := ""
		for _, d := range p.Documents {
			if d.State == ingest.Failed {
				reasons += d.Error + "\n"
			}
		}
		if !strings.Contains(reasons, h.reason) {
			t.Errorf("%s: %d documents, reasons %q, want %q", h.name, len(p.Documents), clipped(reasons), h.reason)
		}
		if took > 10*time.Second {
			t.Errorf("%s took %v", h.name, took)
		}
	}
	stop()
	grown := (peak.Load() - before) >> 20
	t.Logf("resident memory grew by %d MiB over %d MiB", grown, before>>20)
	if grown > 512 {
		t.Errorf("resident memory grew by %d MiB", grown)
	}
	if p := await(t, s, submit(t, s, "c", file("good.md", "# Good\n\nwords")).IngestionID); p.Ready != 1 {
		t.Errorf("after them: %+v", p)
	}
}

// TestLargeFilesAreRefusedByName: more than the service takes is not stored.
func TestLargeFilesAreRefusedByName(t *testing.T) {
	s := newService(t, pgtest.New(t), &hashEmbedder{})
	_, err := s.Submit(t.Context(), "c", []ingest.File{{Name: "200MB.txt", Content: bytes.Repeat([]byte(" "), 2<<20)}})
	if err == nil || !strings.Contains(err.Error(), "documents[0].content") {
		t.Errorf("got %v", err)
	}
}

func clipped(s string) string { return s[:min(len(s), 300)] }

// resident is this process's resident memory in bytes.
func resident(t *testing.T) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("TestHostileFilesEachGetAReason measures memory by /proc, which is not here:", err)
	}
	fields := strings.Fields(string(text))
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		t.Error(err)
	}
	return pages * int64(os.Getpagesize())
}
