package extract

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/klippa-app/go-pdfium"
	pdfiumerrors "github.com/klippa-app/go-pdfium/errors"
	"github.com/klippa-app/go-pdfium/references"
	"github.com/klippa-app/go-pdfium/requests"
)

const (
	typePDF = "application/pdf"

	maxPages = 10_000
	// pdfStep is how long opening a document, or reading one page of it, may take. Honest pages take milliseconds.
	pdfStep = 5 * time.Second
	// pdfWhole is how long a document may take.
	pdfWhole = 10 * time.Minute
	// maxPageChars bounds the text of one page.
	maxPageChars = 1 << 20
)

// pdf reads the text layer of a PDF: lines with their places on the page, joined to paragraphs, without the
// headers and footers that repeat; large type makes headings. A scan has no text layer, and the error says so.
func pdf(ctx context.Context, name string, content []byte) (Document, error) {
	ctx, cancel := context.WithTimeout(ctx, pdfWhole)
	defer cancel()
	instance, memory, err := pdfSandbox.instance(ctx)
	if err != nil {
		return Document{}, fmt.Errorf("read PDF: %w", err)
	}
	defer memory.release()
	r := &pdfReader{Pdfium: instance}
	defer r.close()
	pages, err := r.read(ctx, content)
	if err != nil {
		return Document{}, err
	}
	d := layOut(pages)
	if len(d.Text) > maxTextBytes {
		return Document{}, overLimit("it holds more than %d MiB of text", maxTextBytes>>20)
	}
	if !strings.ContainsFunc(d.Text, readable) {
		return Document{}, &NoTextError{name, fmt.Sprintf("none of its %d pages has a text layer; it is probably a scan, which needs OCR first", len(pages))}
	}
	return d, nil
}

// pdfReader is one instance of PDFium, in a memory of its own, for one document.
type pdfReader struct {
	pdfium.Pdfium
	killed bool
}

// step runs one call with its time limit; past it the instance is killed, and every later call fails.
func (r *pdfReader) step(ctx context.Context, what string, call func() error) error {
	done := make(chan struct{})
	ended := make(chan bool, 1)
	limit, cancel := context.WithTimeout(ctx, pdfStep)
	defer cancel()
	go func() {
		select {
		case <-done:
			ended <- false
		case <-limit.Done():
			_ = r.Kill() // the call below then returns with an error
			ended <- true
		}
	}()
	err := call()
	close(done)
	if <-ended {
		r.killed = true
		if err := ctx.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return overLimit("%s takes longer than is allowed", what)
	}
	return err
}

func (r *pdfReader) close() {
	if !r.killed {
		_ = r.Close() // nothing of it is used again
	}
}

func (r *pdfReader) read(ctx context.Context, content []byte) ([]pdfPage, error) {
	var document references.FPDF_DOCUMENT
	count := 0
	err := r.step(ctx, "opening it", func() error {
		d, err := r.OpenDocument(&requests.OpenDocument{File: &content})
		if err != nil {
			return err
		}
		document = d.Document
		n, err := r.FPDF_GetPageCount(&requests.FPDF_GetPageCount{Document: document})
		if err == nil {
			count = n.PageCount
		}
		return err
	})
	switch {
	case errors.Is(err, pdfiumerrors.ErrPassword), errors.Is(err, pdfiumerrors.ErrSecurity):
		return nil, &EncryptedError{typePDF}
	case errors.Is(err, pdfiumerrors.ErrFormat):
		return nil, errors.New("read PDF: it is damaged or truncated")
	case err != nil:
		return nil, reading("PDF", err)
	case count > maxPages:
		return nil, overLimit("it declares %d pages; at most %d are read", count, maxPages)
	}
	pages := make([]pdfPage, count)
	chars := 0
	for i := range pages {
		err := r.step(ctx, fmt.Sprintf("reading page %d", i+1), func() (err error) {
			pages[i], err = r.page(document, i)
			return err
		})
		if r.killed || ctx.Err() != nil {
			return nil, err
		}
		if err != nil {
			pages[i] = pdfPage{} // a damaged page costs the others nothing
			continue
		}
		if chars += pages[i].chars; chars > maxTextBytes {
			return nil, overLimit("it holds more than %d MiB of text", maxTextBytes>>20)
		}
	}
	return pages, nil
}

// page reads the lines of one page, in the order of the document.
func (r *pdfReader) page(document references.FPDF_DOCUMENT, index int) (pdfPage, error) {
	loaded, err := r.FPDF_LoadPage(&requests.FPDF_LoadPage{Document: document, Index: index})
	if err != nil {
		return pdfPage{}, err
	}
	defer r.FPDF_ClosePage(&requests.FPDF_ClosePage{Page: loaded.Page})
	whole := requests.Page{ByReference: &loaded.Page}
	text, err := r.FPDFText_LoadPage(&requests.FPDFText_LoadPage{Page: whole})
	if err != nil {
		return pdfPage{}, err
	}
	defer r.FPDFText_ClosePage(&requests.FPDFText_ClosePage{TextPage: text.TextPage})
	count, err := r.FPDFText_CountChars(&requests.FPDFText_CountChars{TextPage: text.TextPage})
	if err != nil || count.Count <= 0 {
		return pdfPage{}, err
	}
	if count.Count > maxPageChars {
		return pdfPage{}, overLimit("page %d has more than %d characters", index+1, maxPageChars)
	}
	got, err := r.FPDFText_GetText(&requests.FPDFText_GetText{TextPage: text.TextPage, Count: count.Count})
	if err != nil {
		return pdfPage{}, err
	}
	page := pdfPage{chars: len(got.Text)}
	if size, err := r.FPDF_GetPageHeight(&requests.FPDF_GetPageHeight{Page: whole}); err == nil {
		page.height = size.Height
	}
	at := 0 // index of the character, in UTF-16 code units
	for _, line := range splitLines(got.Text) {
		if l, ok := r.line(text.TextPage, at, line.text); ok {
			l.joined = line.joined
			page.lines = append(page.lines, l)
		}
		at += utf16Length(line.text) + line.ending
	}
	return page, nil
}

// line finds the place and the size of a line by its first and last visible characters.
func (r *pdfReader) line(page references.FPDF_TEXTPAGE, at int, text string) (pdfLine, bool) {
	trimmed := strings.TrimLeft(text, pdfSpace)
	first := at + utf16Length(text[:len(text)-len(trimmed)])
	trimmed = strings.TrimRight(trimmed, pdfSpace)
	if trimmed == "" {
		return pdfLine{}, false
	}
	l := pdfLine{text: trimmed}
	last := first + utf16Length(trimmed) - 1
	left, err := r.FPDFText_GetLooseCharBox(&requests.FPDFText_GetLooseCharBox{TextPage: page, Index: first})
	if err != nil {
		return l, true // a line without a place is still a line
	}
	l.left, l.right = float64(left.Rect.Left), float64(left.Rect.Right)
	l.top, l.bottom = float64(left.Rect.Top), float64(left.Rect.Bottom)
	if right, err := r.FPDFText_GetLooseCharBox(&requests.FPDFText_GetLooseCharBox{TextPage: page, Index: last}); err == nil {
		l.right = max(l.right, float64(right.Rect.Right))
		l.top, l.bottom = max(l.top, float64(right.Rect.Top)), min(l.bottom, float64(right.Rect.Bottom))
	}
	if size, err := r.FPDFText_GetFontSize(&requests.FPDFText_GetFontSize{TextPage: page, Index: first}); err == nil {
		l.size = size.FontSize
	}
	return l, true
}
