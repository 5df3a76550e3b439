package extract

import (
	"errors"
	"net/url"
	"path"
	"strings"

	dom "golang.org/x/net/html"
)

const typeEPUB = "application/epub+zip"

// epub reads a book (EPUB 2 and 3) in the order of its spine. Encrypted books are told by their manifest.
func epub(p *parts) (Document, error) {
	if p.has("META-INF/rights.xml") || p.has("META-INF/encryption.xml") && !onlyFonts(p) {
		return Document{}, &EncryptedError{typeEPUB}
	}
	opf := ""
	err := p.walk("META-INF/container.xml", func(w *xmlWalker) error {
		if w.at("rootfile") && opf == "" {
			opf = path.Clean(strings.TrimPrefix(w.attr("full-path"), "/"))
		}
		return nil
	})
	if err != nil {
		return Document{}, err
	}
	if opf == "" {
		return Document{}, errors.New("read EPUB: its container names no package")
	}
	title, chapters, err := readSpine(p, opf)
	if err != nil {
		return Document{}, err
	}
	var out writer
	out.heading(1, title)
	for _, chapter := range chapters {
		if !p.has(chapter) {
			continue
		}
		content, err := p.read(chapter)
		if err != nil {
			return Document{}, err
		}
		markdown, err := chapterText(decode(content, ""))
		if err != nil {
			return Document{}, reading(chapter, err)
		}
		out.block(strings.TrimSpace(markdown), false)
	}
	return out.document(typeEPUB)
}

// readSpine gives the title of the book and its chapters in reading order.
func readSpine(p *parts, opf string) (title string, chapters []string, err error) {
	manifest := map[string]string{}
	err = p.walk(opf, func(w *xmlWalker) error {
		switch {
		case w.at("item") && strings.Contains(w.attr("media-type"), "html"):
			manifest[w.attr("id")] = path.Join(path.Dir(opf), unescapePath(w.attr("href")))
		case w.at("itemref") && w.attr("linear") != "no":
			if chapter := manifest[w.attr("idref")]; chapter != "" {
				chapters = append(chapters, chapter)
			}
		case w.textOf("title"):
			title += w.text
		}
		return nil
	})
	return title, chapters, err
}

// chapterText is a chapter as Markdown, whole: a book has no menus around its text.
func chapterText(text string) (string, error) {
	page, err := dom.Parse(strings.NewReader(clean(text)))
	if err != nil {
		return "", err
	}
	discard(page)
	limitSpans(page)
	partSections(page)
	if head := elementOf(page, "head"); head != nil {
		head.Parent.RemoveChild(head)
	}
	return toMarkdown(page)
}

// elementOf finds the first element of a name.
func elementOf(n *dom.Node, name string) *dom.Node {
	if n.Type == dom.ElementNode && n.Data == name {
		return n
	}
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		if found := elementOf(child, name); found != nil {
			return found
		}
	}
	return nil
}

// onlyFonts reports whether nothing but fonts is encrypted, which is common and hides no text.
func onlyFonts(p *parts) bool {
	fonts := true
	err := p.walk("META-INF/encryption.xml", func(w *xmlWalker) error {
		if w.at("CipherReference") {
			switch strings.ToLower(path.Ext(w.attr("URI"))) {
			case ".otf", ".ttf", ".woff", ".woff2":
			default:
				fonts = false
			}
		}
		return nil
	})
	return err == nil && fonts
}

// unescapePath undoes the percent escapes of an address inside the book, fragments cut off.
func unescapePath(href string) string {
	href, _, _ = strings.Cut(href, "#")
	if plain, err := url.PathUnescape(href); err == nil {
		return plain
	}
	return href
}
