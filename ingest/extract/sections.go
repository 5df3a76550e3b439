package extract

import (
	"regexp"
	"strings"

	dom "golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// sectionName are classes by which generators of pages (DocBook, Docutils) mark a section in a div.
var sectionName = regexp.MustCompile(`^(?:section|(?:ref)?sect[1-5])$`)

func isSection(n *dom.Node) bool {
	switch n.DataAtom {
	case atom.Section, atom.Article:
		return true
	case atom.Div:
		for _, a := range n.Attr {
			if a.Key == "class" {
				for _, name := range strings.Fields(a.Val) {
					if sectionName.MatchString(name) {
						return true
					}
				}
			}
		}
	}
	return false
}

// whole are elements that no rule may part.
var whole = map[atom.Atom]bool{atom.Table: true, atom.Ul: true, atom.Ol: true, atom.Dl: true, atom.Pre: true, atom.Blockquote: true, atom.P: true}

// partSections sets a rule between sections that no heading parts: Markdown has no other mark for where one ends.
func partSections(page *dom.Node) {
	p := parter{}
	p.walk(page)
}

type parter struct {
	text   bool      // what was read last can be read on: it is no heading
	parent *dom.Node // where a section began or ended since, nil if none did:
	before *dom.Node // the child of parent that a rule would stand before; nil for its end
}

// walk reads a node in the order of the page.
func (p *parter) walk(n *dom.Node) {
	switch {
	case n.Type == dom.TextNode:
		if strings.TrimSpace(n.Data) != "" {
			p.read(false)
		}
		return
	case isHeading(n) || whole[n.DataAtom]:
		if words(n) > 0 {
			p.read(isHeading(n))
		}
		return
	case n.DataAtom == atom.Head:
		return
	}
	bounds := isSection(n)
	if bounds {
		p.mark(n.Parent, n)
	}
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		p.walk(child)
	}
	if bounds {
		p.mark(n.Parent, n.NextSibling)
	}
}

// mark remembers the first place since the last text: the outermost of sections that end and begin there.
func (p *parter) mark(parent, before *dom.Node) {
	if p.parent == nil {
		p.parent, p.before = parent, before
	}
}

// read takes text, of a heading or not.
func (p *parter) read(heading bool) {
	if p.parent != nil && p.text && !heading {
		p.parent.InsertBefore(&dom.Node{Type: dom.ElementNode, Data: "hr", DataAtom: atom.Hr}, p.before)
	}
	p.text, p.parent, p.before = !heading, nil, nil
}

func isHeading(n *dom.Node) bool {
	switch n.DataAtom {
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		return true
	}
	return false
}
