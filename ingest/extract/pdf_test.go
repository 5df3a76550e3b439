package extract

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestPDFReadsPagesLinesAndHeadings(t *testing.T) {
	page := func(n int, lines ...pdfText) []pdfText {
		return append([]pdfText{{60, 810, 9, fmt.Sprintf("CHAPTER %d. A RUNNING HEAD %c", n, 'A'+n)}, {290, 30, 9, fmt.Sprint(n)}}, lines...)
	}
	d := extracted(t, "x.pdf", pdfOf(
		page(1, slices.Concat([]pdfText{{60, 740, 24, "The Manual"}, {60, 700, 15, "Set up"}},
			prose(670, "The first paragraph goes over", "two lines (and says so).", "This is its end, which is short."),
			prose(600, "A second paragraph stands apart."))...),
		page(2, prose(740, "A page that begins with text", "and ends in the middle of a", "sentence because its author,")...),
		page(3, prose(740, "who had no room, went on here.")...),
		page(4, prose(740, "The last page has", "two lines.")...)))
	want := "The Manual\n\nSet up\n\nThe first paragraph goes over\ntwo lines (and says so).\nThis is its end, which is short.\n\nA second paragraph stands apart.\n\n" +
		"A page that begins with text\nand ends in the middle of a\nsentence because its author,\nwho had no room, went on here.\n\nThe last page has\ntwo lines."
	wantText(t, d, typePDF, want)
	checkStorable(t, d)
	if len(d.Outline) != 2 || d.Outline[0].Title != "The Manual" || d.Outline[0].Level != 1 || d.Outline[1].Title != "Set up" || d.Outline[1].Level != 2 {
		t.Errorf("outline %+v", d.Outline)
	}
	if len(d.Pages) != 4 || !strings.HasPrefix(d.Text[d.Pages[1]:], "A page that") || !strings.HasPrefix(d.Text[d.Pages[2]:], "who had") {
		t.Errorf("pages at %v", d.Pages)
	}
	i := slices.IndexFunc(d.Boxes, func(b Box) bool { return d.Text[b.Start:b.End] == "two lines." })
	if i < 0 {
		t.Fatalf("no box for a line: %+v", d.Boxes)
	}
	if b := d.Boxes[i]; b.Page != 4 || !(b.Left > 55 && b.Left < 65) || !(b.Right > 95 && b.Right < 115) || !(b.Bottom > 715 && b.Top < 745) {
		t.Errorf("the last line stands at %+v", b)
	}
}

func TestPDFWithoutTextSaysSo(t *testing.T) {
	_, err := Extract(t.Context(), "scan.pdf", "", []byte(pdfOf(nil, nil)))
	nothing, ok := errors.AsType[*NoTextError](err)
	if !ok || !strings.Contains(nothing.Why, "no") || !strings.Contains(err.Error(), "text layer") {
		t.Errorf("got %v", err)
	}
}

func TestPDFDamaged(t *testing.T) {
	good := pdfOf(prose(700, "words"))
	for what, content := range map[string]string{"cut": good[:len(good)/3], "only its first words": "%PDF-1.7 and words"} {
		if _, err := Extract(t.Context(), "x.pdf", "", []byte(content)); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLayOutJoinsHyphensAndParagraphs(t *testing.T) {
	line := func(y float64, text string, joined bool) pdfLine {
		return pdfLine{text: text, left: 60, right: 300, top: y + 10, bottom: y, size: 10, joined: joined}
	}
	d := layOut([]pdfPage{{height: 842, lines: []pdfLine{line(700, "an exam", true), line(688, "ple of it", false), line(676, "• a bullet", false), line(640, "apart", false)}}})
	if want := "an example of it\n\n• a bullet\n\napart"; d.Text != want {
		t.Errorf("got %q, want %q", d.Text, want)
	}
}

func FuzzPDF(f *testing.F) {
	good := pdfOf(prose(700, "some words", "on a page"), prose(700, "and more"))
	f.Add([]byte(good))
	f.Add([]byte(good[:200]))
	f.Add([]byte(strings.Replace(good, "/Count 2", "/Count 2000000000", 1)))
	f.Add([]byte("%PDF-1.7\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if d, err := Extract(t.Context(), "x.pdf", "", append([]byte("%PDF-"), content...)); err == nil {
			checkStorable(t, d)
		}
	})
}

// TestPDFMemoryIsGivenBack reads documents one after the other, good, damaged and cut off ones: the address space of
// each is free for the next.
func TestPDFMemoryIsGivenBack(t *testing.T) {
	size := func() int {
		text, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			t.Skipf("the address space cannot be asked for here: %v", err)
		}
		pages, err := strconv.Atoi(strings.Fields(string(text))[0])
		if err != nil {
			t.Fatal(err)
		}
		return pages * os.Getpagesize()
	}
	good := pdfOf(prose(700, "words"))
	read := func(content string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, _ = Extract(ctx, "x.pdf", "", []byte(content)) // what becomes of each is tested elsewhere
	}
	read(good) // PDFium is compiled
	before := size()
	for range 6 {
		read(good)
		read(good[:len(good)/3])
	}
	if grown := size() - before; grown > 4*pdfMemoryPages<<16 {
		t.Errorf("after 12 documents the address space is %d MiB larger", grown>>20)
	}
}
