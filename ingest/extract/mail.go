package extract

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"regexp"
	"strings"

	"golang.org/x/net/html/charset"
)

const (
	typeMail = "message/rfc822"
	typeMbox = "application/mbox"

	maxMailParts   = 200
	maxMailDepth   = 5
	maxAttachments = 50
)

// mailHead is the first line of a mail: a header field that mails begin with, and what distinguishes them
// from other text that begins with a word and a colon.
var (
	mailHead  = regexp.MustCompile(`(?i)^(?:return-path|received|from|to|subject|date|message-id|mime-version|delivered-to|x-[a-z-]+|content-type|dkim-signature|arc-seal|reply-to|sender|cc): ?\S?`)
	mailProof = regexp.MustCompile(`(?im)^(?:message-id|mime-version|received|return-path|content-transfer-encoding): ?\S`)
	mailFrom  = regexp.MustCompile(`(?im)^from: ?\S`)
	mboxHead  = regexp.MustCompile(`^From \S+.*\d\d:\d\d.*\r?\n[!-9;-~]+:`)
)

// mailType tells a mail and a mailbox by their first lines.
func mailType(content []byte) string {
	begin := content[:min(len(content), 16<<10)]
	if mboxHead.Match(begin) {
		return typeMbox
	}
	head := begin
	if i := bytes.Index(begin, []byte("\n\n")); i >= 0 {
		head = begin[:i]
	}
	if i := bytes.Index(head, []byte("\r\n\r\n")); i >= 0 {
		head = head[:i]
	}
	if mailHead.Match(head) && mailProof.Match(head) && mailFrom.Match(head) {
		return typeMail
	}
	return ""
}

// mailMessage reads one mail (RFC 5322, MIME): subject, sender, date, its text, and what is attached.
func mailMessage(ctx context.Context, content []byte, nesting int) (Document, error) {
	m := mailReader{ctx: ctx, nesting: nesting}
	if err := m.message(content); err != nil {
		return Document{}, reading("mail", err)
	}
	return m.out.document(typeMail)
}

// mailbox reads the mails of an mbox file (RFC 4155) one after the other.
func mailbox(ctx context.Context, content []byte, nesting int) (Document, error) {
	m := mailReader{ctx: ctx, nesting: nesting}
	for len(content) > 0 {
		_, rest, _ := bytes.Cut(content, []byte("\n")) // the "From " line
		body := rest
		content = nil
		if next := mboxNext(rest); next >= 0 {
			body, content = rest[:next], rest[next:]
		}
		body = bytes.ReplaceAll(body, []byte("\n>From "), []byte("\nFrom "))
		if err := m.message(body); err != nil {
			if _, refused := errors.AsType[*LimitError](err); refused {
				return Document{}, err
			}
			m.out.paragraph("(a mail that cannot be read: " + err.Error() + ")")
		}
		m.parts, m.attachments = 0, 0
		if err := ctx.Err(); err != nil {
			return Document{}, err
		}
	}
	return m.out.document(typeMbox)
}

// mboxNext is where the next mail of a mailbox begins, −1 after the last.
func mboxNext(content []byte) int {
	for from := 0; ; {
		i := bytes.Index(content[from:], []byte("\nFrom "))
		if i < 0 {
			return -1
		}
		at := from + i + 1
		if mboxHead.Match(content[at:min(len(content), at+1024)]) {
			return at
		}
		from = at
	}
}

type mailReader struct {
	ctx         context.Context
	out         writer
	nesting     int
	parts       int
	attachments int
}

func (m *mailReader) message(content []byte) error {
	message, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		return err
	}
	subject := header(message.Header.Get("Subject"))
	if subject == "" {
		subject = "(no subject)"
	}
	m.out.heading(1, subject)
	var lines []string
	for _, key := range []string{"From", "To", "Cc", "Date"} {
		if v := header(message.Header.Get(key)); v != "" {
			lines = append(lines, key+": "+v)
		}
	}
	m.out.paragraph(strings.Join(lines, "\n"))
	return m.part(textproto.MIMEHeader(message.Header), message.Body, 0)
}

// header decodes the encoded words of RFC 2047.
func header(s string) string {
	d := mime.WordDecoder{CharsetReader: charset.NewReaderLabel}
	if plain, err := d.DecodeHeader(s); err == nil {
		s = plain
	}
	return oneLine(strings.ToValidUTF8(s, "\uFFFD"))
}

// part reads one part of a mail, whatever is inside it.
func (m *mailReader) part(head textproto.MIMEHeader, body io.Reader, depth int) error {
	if m.parts++; m.parts > maxMailParts {
		return overLimit("the mail has more than %d parts", maxMailParts)
	}
	if depth > maxMailDepth {
		return overLimit("the parts of the mail stand more than %d deep inside each other", maxMailDepth)
	}
	if err := m.ctx.Err(); err != nil {
		return err
	}
	kind, parameters, err := mime.ParseMediaType(head.Get("Content-Type"))
	if err != nil || kind == "" {
		kind = "text/plain"
	}
	if strings.HasPrefix(kind, "multipart/") && parameters["boundary"] != "" {
		return m.multipart(kind, parameters["boundary"], body, depth)
	}
	content, err := io.ReadAll(transfer(head.Get("Content-Transfer-Encoding"), body))
	if err != nil && len(content) == 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err // what is cut counts as far as it goes
	}
	name := attachmentName(head, parameters)
	disposition, _, _ := mime.ParseMediaType(head.Get("Content-Disposition"))
	switch {
	case disposition != "attachment" && name == "" && strings.HasPrefix(kind, "text/"):
		return m.text(kind, head.Get("Content-Type"), content)
	case kind == typeMail:
		if m.nesting+depth >= maxNesting {
			return overLimit("mails stand more than %d deep inside each other", maxNesting)
		}
		inner, err := mailMessage(m.ctx, content, m.nesting+1)
		if err != nil {
			return err
		}
		m.out.block(strings.TrimSpace(inner.Text), false)
		return m.out.err
	}
	return m.attachment(name, kind, content)
}

// multipart reads every part, or the best of several alternatives.
func (m *mailReader) multipart(kind, boundary string, body io.Reader, depth int) error {
	type alternative struct {
		head textproto.MIMEHeader
		body []byte
	}
	var best *alternative
	r := multipart.NewReader(body, boundary)
	for n := 0; ; n++ {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) || err != nil && n > 0 { // a mail that was cut keeps what came before
			break
		}
		if err != nil {
			return err
		}
		if kind != "multipart/alternative" {
			if err := m.part(p.Header, p, depth+1); err != nil {
				return err
			}
			continue
		}
		if m.parts++; m.parts > maxMailParts {
			return overLimit("the mail has more than %d parts", maxMailParts)
		}
		// HTML keeps lists and tables, of which plain text is often a poor copy; else the last is the richest.
		if best != nil && mediaTypeOf(best.head) == "text/html" && !strings.HasPrefix(mediaTypeOf(p.Header), "multipart/") {
			continue
		}
		content, err := io.ReadAll(p)
		if err != nil && len(content) == 0 {
			break
		}
		best = &alternative{p.Header, content}
	}
	if best == nil {
		return nil
	}
	return m.part(best.head, bytes.NewReader(best.body), depth+1)
}

func mediaTypeOf(head textproto.MIMEHeader) string {
	kind, _, _ := mime.ParseMediaType(head.Get("Content-Type"))
	return kind
}

func (m *mailReader) text(kind, contentType string, content []byte) error {
	text := clean(decode(content, contentType))
	if kind == "text/html" {
		d, err := html(text)
		if err != nil {
			return err
		}
		text = d.Text
	}
	m.out.block(strings.TrimSpace(text), false)
	return m.out.err
}

// attachment adds the text of what is attached; one that cannot be read is named with its reason.
func (m *mailReader) attachment(name, kind string, content []byte) error {
	if name == "" {
		name = "unnamed"
	}
	if m.attachments++; m.attachments > maxAttachments {
		return overLimit("the mail has more than %d attachments", maxAttachments)
	}
	m.out.heading(2, "Attachment "+header(name))
	if m.nesting >= maxNesting {
		return overLimit("documents stand more than %d deep inside each other", maxNesting)
	}
	d, err := extractNested(m.ctx, name, kind, content, m.nesting+1)
	if m.ctx.Err() != nil {
		return m.ctx.Err()
	}
	if err != nil {
		m.out.paragraph(fmt.Sprintf("(not read: %v)", err))
		return m.out.err
	}
	if d.Language != "" {
		m.out.code(d.Language, d.Text)
	} else {
		m.out.block(strings.TrimSpace(d.Text), false)
	}
	return m.out.err
}

func attachmentName(head textproto.MIMEHeader, parameters map[string]string) string {
	if _, p, err := mime.ParseMediaType(head.Get("Content-Disposition")); err == nil && p["filename"] != "" {
		return p["filename"]
	}
	return parameters["name"]
}

// transfer undoes the transfer encoding of a part.
func transfer(encoding string, body io.Reader) io.Reader {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, &base64Filter{body})
	case "quoted-printable":
		return quotedprintable.NewReader(body)
	}
	return body
}

// base64Filter drops what mails put between the characters of base64.
type base64Filter struct{ r io.Reader }

func (f *base64Filter) Read(p []byte) (int, error) {
	for {
		n, err := f.r.Read(p)
		kept := 0
		for _, c := range p[:n] {
			if c > ' ' {
				p[kept] = c
				kept++
			}
		}
		if kept > 0 || err != nil {
			return kept, err
		}
	}
}
