package extract

import (
	"strings"
	"testing"
)

// Sections that no heading parts are parted by rules; headings, lists and tables stay as they are.
func TestPartSections(t *testing.T) {
	for _, c := range []struct{ name, page, want string }{
		{"sections", `<h1>T</h1><section><p>one</p></section><section><p>two</p></section>`, "# T\n\none\n\n* * *\n\ntwo"},
		{"a heading parts them", `<h1>T</h1><section><h2>A</h2><p>one</p></section><section><h2>B</h2><p>two</p></section>`, "# T\n\n## A\n\none\n\n## B\n\ntwo"},
		{"an empty one does not", `<h1>T</h1><article><p>one</p></article><article><h2> </h2><p>two</p></article>`, "# T\n\none\n\n* * *\n\ntwo"},
		{"of DocBook", `<h1>T</h1><div class="big sect1"><div class="titlepage"><div></div></div><p>one</p></div><div class="section"><p>two</p></div>`, "# T\n\none\n\n* * *\n\ntwo"},
		{"other divs", `<h1>T</h1><div class="sections"><p>one</p></div><div><p>two</p></div>`, "# T\n\none\n\ntwo"},
		{"what goes on behind one", `<h1>T</h1><p>zero</p><section><section><p>one</p></section></section><p>two</p>`, "# T\n\nzero\n\n* * *\n\none\n\n* * *\n\ntwo"},
		{"nothing but sections", `<title>T</title><section><section><section><p>one</p></section></section></section>`, "# T\n\none"},
		{"inside a list", `<h1>T</h1><ul><li><section><p>one</p></section></li><li><section><p>two</p></section></li></ul>`, "# T\n\n- one\n- two"},
		{"inside a table", `<h1>T</h1><table><tr><td>a</td><td>b</td></tr><tr><td><section>one</section></td><td><section>two</section></td></tr></table>`,
			"# T\n\n| a | b |\n|---|---|\n| one | two |"},
	} {
		d, err := html(c.page)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if d.Text != c.want {
			t.Errorf("%s:\n%q, wanted\n%q", c.name, d.Text, c.want)
		}
		chapter, err := chapterText(c.page)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if want := strings.TrimPrefix(c.want, "# T\n\n"); !strings.HasSuffix(chapter, want) {
			t.Errorf("%s in a book:\n%q, wanted\n%q", c.name, chapter, want)
		}
	}
}
