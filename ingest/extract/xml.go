package extract

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"

	"golang.org/x/net/html/charset"
)

// xmlWalker goes through an XML part token by token. Nothing outside the part is read: encoding/xml knows no
// external entities, and a document type that declares entities is refused. Depth and tags are bounded.
type xmlWalker struct {
	decoder *xml.Decoder
	stack   []string // local names of the open elements, the present one last
	token   xml.Token
	start   *xml.StartElement // set when the token opens an element
	end     string            // local name of the element that the token closes
	text    string            // characters
}

// walk calls visit for every start, end and text of a part.
func (p *parts) walk(name string, visit func(*xmlWalker) error) error {
	r, err := p.open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	return walkXML(name, r, visit)
}

func walkXML(name string, r io.Reader, visit func(*xmlWalker) error) error {
	w := &xmlWalker{decoder: xml.NewDecoder(&tagGuard{r: r})}
	w.decoder.CharsetReader = charset.NewReaderLabel
	for {
		token, err := w.decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return reading(name, err)
		}
		w.token, w.start, w.end, w.text = token, nil, "", ""
		switch t := token.(type) {
		case xml.StartElement:
			if len(w.stack) == maxXMLDepth {
				return overLimit("%s has more than %d elements inside each other", name, maxXMLDepth)
			}
			w.stack = append(w.stack, t.Name.Local)
			w.start = &t
		case xml.EndElement:
			w.end = t.Name.Local
		case xml.CharData:
			w.text = string(t)
		case xml.Directive:
			if bytes.Contains(bytes.ToUpper(t), []byte("<!ENTITY")) {
				return overLimit("%s declares XML entities", name)
			}
			continue
		default:
			continue
		}
		err = visit(w)
		if w.end != "" && len(w.stack) > 0 {
			w.stack = w.stack[:len(w.stack)-1]
		}
		if err != nil {
			return err
		}
	}
}

// at reports whether the token opens an element of this name.
func (w *xmlWalker) at(local string) bool { return w.start != nil && w.start.Name.Local == local }

// attr is an attribute of the element that the token opens, by its local name.
func (w *xmlWalker) attr(local string) string {
	for _, a := range w.start.Attr {
		if a.Name.Local == local {
			return a.Value
		}
	}
	return ""
}

// relationID is the r:id of an element, which may have another id beside it.
func (w *xmlWalker) relationID() string {
	for _, a := range w.start.Attr {
		if a.Name.Local == "id" && strings.HasSuffix(a.Name.Space, "/relationships") {
			return a.Value
		}
	}
	return ""
}

// inside reports whether an element of this name is open.
func (w *xmlWalker) inside(local string) bool {
	for _, name := range w.stack {
		if name == local {
			return true
		}
	}
	return false
}

// skip passes over the element that the token opens, with all that it holds.
func (w *xmlWalker) skip() error {
	if err := w.decoder.Skip(); err != nil {
		return reading("XML", err)
	}
	w.stack = w.stack[:len(w.stack)-1]
	return nil
}

// tagGuard ends a stream in which a tag is longer than any honest one: its attributes would be held in memory.
type tagGuard struct {
	r    io.Reader
	open int // bytes since the last '<', 0 outside
}

func (g *tagGuard) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if g.open == 0 {
			i := bytes.IndexByte(rest, '<')
			if i < 0 {
				break
			}
			g.open, rest = 1, rest[i+1:]
			continue
		}
		i := bytes.IndexByte(rest, '>')
		if i < 0 {
			g.open += len(rest)
		} else {
			g.open += i
		}
		if g.open > maxTagBytes {
			return 0, overLimit("an XML tag is longer than %d KiB", maxTagBytes>>10)
		}
		if i < 0 {
			break
		}
		g.open, rest = 0, rest[i+1:]
	}
	return n, err
}

// textOf reports whether the token is text that stands directly in an element of this name.
func (w *xmlWalker) textOf(local string) bool {
	return w.text != "" && len(w.stack) > 0 && w.stack[len(w.stack)-1] == local
}
