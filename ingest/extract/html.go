package extract

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"codeberg.org/readeck/go-readability/v2"
	"github.com/JohannesKaufmann/html-to-markdown/v2/converter"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/base"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/commonmark"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/table"
	dom "golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

const (
	// minKept is the share of a page's words that its main content must have to be believed.
	// Below it the guess has more likely thrown away an article than an advertisement.
	minKept = 0.5
	// maxKept is the share above which the guess is not needed: what it drops from a page that is nearly all
	// content are short paragraphs with links.
	maxKept = 0.75
	// maxElements bounds the search for the main content, whose cost is not linear; larger pages are kept whole.
	maxElements = 50_000
)

// html keeps the main content of a page, as Markdown: headings, lists, tables and code survive,
// the addresses of links and images do not.
func html(text string) (Document, error) {
	page, err := dom.Parse(strings.NewReader(text))
	if err != nil {
		return Document{}, fmt.Errorf("read HTML: %w", err)
	}
	title := pageTitle(page)
	discard(page)
	limitSpans(page)
	partSections(page)
	content := mainContent(page)
	if content == nil {
		content = page
	}
	markdown, err := toMarkdown(content)
	if err != nil {
		return Document{}, fmt.Errorf("turn HTML into Markdown: %w", err)
	}
	if title != "" && !strings.HasPrefix(markdown, "# ") {
		markdown = "# " + title + "\n\n" + markdown
	}
	return Document{Text: clean(markdown), Markdown: true, MediaType: typeHTML}, nil
}

// mainContent is readability's guess, or nil if it has none or a poor one. The page is left as it was.
func mainContent(page *dom.Node) *dom.Node {
	parser := readability.NewParser()
	parser.MaxElemsToParse = maxElements
	parser.KeepClasses = true // a class tells the language of code
	parser.DisableJSONLD = true
	parser.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	article, err := parser.ParseDocument(page, &url.URL{})
	if err != nil || article.Node == nil {
		return nil
	}
	if kept := float64(words(article.Node)) / float64(words(page)); !(kept >= minKept && kept < maxKept) {
		return nil
	}
	return article.Node
}

// furniture is never content.
var furniture = map[atom.Atom]bool{
	atom.Script: true, atom.Style: true, atom.Noscript: true, atom.Template: true, atom.Iframe: true, atom.Object: true, atom.Embed: true,
	atom.Nav: true, atom.Button: true, atom.Select: true, atom.Textarea: true, atom.Input: true, atom.Svg: true,
}

// furnitureName are words of a class or an id by which pages and their generators mark what is not content.
var furnitureName = regexp.MustCompile(`(?i)^(?:nav|navbar|navheader|navfooter|navigation|breadcrumbs?|menu|mainmenu|submenu|searchmenu|sidebar|sphinxsidebar|toc|footer|page-footer|site-footer|inline-search|related|skip-?link|cookie-?(?:banner|consent|notice))$`)

// isFurniture tells elements that are never content by what they are, by their role, or by their name.
func isFurniture(n *dom.Node) bool {
	if furniture[n.DataAtom] || n.DataAtom == atom.Footer && n.Parent != nil && n.Parent.DataAtom == atom.Body {
		return true
	}
	for _, a := range n.Attr {
		switch a.Key {
		case "role":
			switch a.Val {
			case "navigation", "search", "banner", "contentinfo", "menu", "menubar":
				return true
			}
		case "class", "id":
			if n.DataAtom == atom.Body || n.DataAtom == atom.Html {
				continue
			}
			if slices.ContainsFunc(strings.Fields(a.Val), furnitureName.MatchString) {
				return true
			}
		}
	}
	return false
}

// discard removes what is never content, and comments.
func discard(n *dom.Node) {
	for child := n.FirstChild; child != nil; {
		next := child.NextSibling
		if child.Type == dom.CommentNode || child.Type == dom.ElementNode && isFurniture(child) {
			n.RemoveChild(child)
		} else {
			discard(child)
		}
		child = next
	}
}

func words(n *dom.Node) int {
	if n.Type == dom.TextNode {
		return len(strings.Fields(n.Data))
	}
	total := 0
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		total += words(child)
	}
	return total
}

// pageTitle is the text of the title element in one line.
func pageTitle(n *dom.Node) string {
	if n.Type == dom.ElementNode && n.DataAtom == atom.Title && n.FirstChild != nil {
		return strings.Join(strings.Fields(n.FirstChild.Data), " ")
	}
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		if title := pageTitle(child); title != "" {
			return title
		}
	}
	return ""
}

// unescape takes back what the converter does to text in every mode.
var unescape = strings.NewReplacer("&lt;", "<", "&gt;", ">")

func toMarkdown(n *dom.Node) (string, error) {
	c := converter.NewConverter(
		converter.WithPlugins(
			base.NewBasePlugin(),
			commonmark.NewCommonmarkPlugin(commonmark.WithListEndComment(false)),
			table.NewTablePlugin(
				table.WithCellPaddingBehavior(table.CellPaddingBehaviorMinimal),
				table.WithNewlineBehavior(table.NewlineBehaviorPreserve),
				table.WithHeaderPromotion(true),
				table.WithSkipEmptyRows(true),
			),
		),
		// Escapes would come between the words of a text and those who search for them.
		converter.WithEscapeMode(converter.EscapeModeDisabled),
	)
	c.Register.TextTransformer(func(_ converter.Context, s string) string { return unescape.Replace(s) }, converter.PriorityLate)
	c.Register.RendererFor("a", converter.TagTypeInline, children, converter.PriorityEarly)
	c.Register.RendererFor("img", converter.TagTypeInline, alternative, converter.PriorityEarly)
	markdown, err := c.ConvertNode(n)
	return string(markdown), err
}

// permalinks are what generators of pages write behind a heading for a link to it.
var permalinks = []string{"¶", "#", "§", "🔗"}

// children renders a link as what it says, and one to its own place as nothing.
func children(ctx converter.Context, w converter.Writer, n *dom.Node) converter.RenderStatus {
	if n.FirstChild == nil || n.FirstChild != n.LastChild || !slices.Contains(permalinks, strings.TrimSpace(n.FirstChild.Data)) {
		ctx.RenderChildNodes(ctx, w, n)
	}
	return converter.RenderSuccess
}

// alternative renders an image as what it shows.
func alternative(_ converter.Context, w converter.Writer, n *dom.Node) converter.RenderStatus {
	for _, a := range n.Attr {
		if a.Key == "alt" {
			w.WriteString(strings.Join(strings.Fields(a.Val), " "))
		}
	}
	return converter.RenderSuccess
}
