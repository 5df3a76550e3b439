package extract

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// faqPages are the chapters of the Debian FAQ in their order.
var faqPages = []string{"basic-defs", "getting-debian", "choosing", "compatibility", "software", "ftparchives", "pkg-basics", "pkgtools",
	"uptodate", "kernel", "customizing", "support", "contributing", "redistributing", "nextrelease", "faqinfo"}

// faqDir is where `make fetch-eval` puts the FAQ; the test is skipped without it.
func faqDir(t *testing.T) string {
	t.Helper()
	assets := os.Getenv("LESSRAG_ASSETS")
	if assets == "" {
		assets = "../../assets"
	}
	dir := filepath.Join(assets, "documents/debian-faq/debian/FAQ")
	if _, err := os.Stat(filepath.Join(dir, "basic-defs.en.html")); err != nil {
		t.Skip("TestParity needs the Debian FAQ, which is not fetched: run make fetch-eval")
	}
	return dir
}

func readFAQ(t *testing.T, dir, name string) Document {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return extracted(t, name, string(content))
}

// TestParity: the same text as HTML, plain text and PDF gives the same words in the same order.
func TestParity(t *testing.T) {
	dir := faqDir(t)
	var page []string
	for _, name := range faqPages {
		page = append(page, faqWords(readFAQ(t, dir, name+".en.html").Text)...)
	}
	text := faqWords(afterContents(t, readFAQ(t, dir, "debian-faq.en.txt.gz").Text))
	pdf := faqWords(afterContents(t, readFAQ(t, dir, "debian-faq.en.pdf.gz").Text))
	if len(page) < 20_000 {
		t.Fatalf("only %d words of HTML", len(page))
	}
	for _, c := range []struct {
		what  string
		a, b  []string
		share float64
	}{{"HTML in text", page, text, 0.99}, {"text in HTML", text, page, 0.99}, {"HTML in PDF", page, pdf, 0.97}, {"PDF in HTML", pdf, page, 0.97}} {
		got := float64(inOrder(c.a, c.b)) / float64(len(c.a))
		t.Logf("%s: %.4f of %d words", c.what, got, len(c.a))
		if !(got >= c.share) {
			t.Errorf("%s: %.4f of the words, want %.2f", c.what, got, c.share)
		}
	}
}

// afterContents drops the title and the table of contents, which the HTML has on a page of its own.
func afterContents(t *testing.T, text string) string {
	t.Helper()
	at := strings.LastIndex(text, "Definitions and overview\n")
	if at < 0 {
		t.Fatal("the first chapter is not found")
	}
	text = text[at:]
	if index := strings.LastIndex(text, "\nIndex "); index > 0 { // the PDF has one
		text = text[:index]
	}
	return text
}

// furnitureOfFAQ is what the generators of the formats add to the author's words, each in its own way: numbers of
// headings and footnotes, rules, addresses (printed where there are no links), the titles of sections referred
// to (printed where there are links).
var furnitureOfFAQ = regexp.MustCompile(`(?m)^#* *(?:Chapter[ \x{a0}])?\d+(?:\.\d+)*\.?[ \x{a0}]|\[\d+\]|^[-=_]{5,}$|\([\s\x{a0}]*https?:[^()]{1,400}\)|https?:[\s\x{a0}]*//[\s\x{a0}]*\S+(?:[./?=#-]\n[\s\x{a0}]*\S+)*|, “[^”]{1,200}”`)

// faqWords are the words of a text in lower case.
func faqWords(text string) []string {
	text = furnitureOfFAQ.ReplaceAllString(text, " ")
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// inOrder is the length of the longest common subsequence, by the greedy algorithm of Myers (1986).
func inOrder(a, b []string) int {
	n, m := len(a), len(b)
	v := make([]int, 2*(n+m)+3)
	zero := n + m + 1
	for d := 0; d <= n+m; d++ {
		for k := -d; k <= d; k += 2 {
			x := v[zero+k-1] + 1
			if k == -d || k != d && v[zero+k-1] < v[zero+k+1] {
				x = v[zero+k+1]
			}
			y := x - k
			for x < n && y < m && a[x] == b[y] {
				x, y = x+1, y+1
			}
			v[zero+k] = x
			if x >= n && y >= m {
				return (n + m - d) / 2
			}
		}
	}
	return 0
}

func TestInOrder(t *testing.T) {
	words := strings.Fields
	for _, c := range []struct {
		a, b string
		want int
	}{{"a b c", "a b c", 3}, {"a b c", "a x c", 2}, {"", "a", 0}, {"a b", "b a", 1}, {"a b c a b b a", "c b a b a c", 4}} {
		if got := inOrder(words(c.a), words(c.b)); got != c.want {
			t.Errorf("%q and %q have %d in order, want %d", c.a, c.b, got, c.want)
		}
	}
}
