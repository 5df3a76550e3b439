package extract

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDetectionGoesByContent(t *testing.T) {
	for _, c := range []struct{ name, mediaType, content, want string }{
		{"a.md", "", "# Title\n\ntext", typeMarkdown},
		{"a.md", "", "<p align=center>logo</p>\n\n# Title", typeMarkdown},
		{"a", "text/markdown; charset=utf-8", "text", typeMarkdown},
		{"a.txt", "", "# no heading here", typeText},
		{"a.txt", "", "<!DOCTYPE html><html><body><p>text</p></body></html>", typeHTML},
		{"a", "", "<html><body>text</body></html>", typeHTML},
		{"a.html", "", "just words, 1 < 2", typeText},
		{"a.html", "", "words <b>and</b> tags", typeHTML},
		{"a.md", "text/html", "<div>text</div>", typeHTML},
		{"a", "", `<?xml version="1.0"?><!DOCTYPE html PUBLIC "x"><html xmlns="http://www.w3.org/1999/xhtml"><body>text</body></html>`, typeHTML},
		{"a.pdf", "application/pdf", "plain words in spite of all claims", typeText},
		{"main.go", "", "package main\n", typeCode},
		{"notes.txt", "", "a,b\n1,2\n", typeText},
		{"notes.csv", "", "a,b\n1,2\n", typeCSV},
		{"notes", "", "a,b,c\n1,2,3\n4,5,6\n7,8,9\n1,2,3\n", typeCSV},
		{"notes", "", `{"a": 1}`, typeJSON},
		{"notes", "", "{\"a\": 1}\n{\"a\": 2}\n", typeNDJSON},
		{"notes.txt", "", "[see below] a text", typeText},
		{"letter", "", "From: a@b.example\nMessage-ID: <1@b>\nSubject: s\n\ntext", typeMail},
		{"prose", "", "From: here to there\n\ntext", typeText},
	} {
		d, err := Extract(t.Context(), c.name, c.mediaType, []byte(c.content))
		if err != nil {
			t.Errorf("%s %q: %v", c.name, c.content, err)
			continue
		}
		if d.MediaType != c.want || d.Markdown != (c.want == typeMarkdown || c.want == typeHTML || c.want == typeCSV || c.want == typeMail) {
			t.Errorf("%s %q is %s, want %s", c.name, c.content, d.MediaType, c.want)
		}
	}
}

func TestOtherFormatsAreRefused(t *testing.T) {
	for name, content := range map[string]string{
		"application/x-gzip-of-an-image": gzipped("\x89PNG\x0D\x0A\x1A\x0A and words"),
		"application/zip":                zipped(map[string]string{"a.txt": "archives are taken apart before"}),
		"application/x-tar":              tarred(map[string]string{"a.txt": "words"}),
		"image/png":                      "\x89PNG\x0D\x0A\x1A\x0A and words",
		"application/rtf":                `{\rtf1 words}`,
		"application/x-executable":       "\x7fELF words",
		"application/x-ole-storage":      "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 words",
		"application/octet-stream":       strings.Repeat("\x00\x01\x02words", 100),
	} {
		_, err := Extract(t.Context(), "claims.txt", "text/plain", []byte(content))
		refused, ok := errors.AsType[*UnsupportedError](err)
		want := strings.Replace(name, "application/x-gzip-of-an-image", "image/png", 1)
		if !ok || !strings.HasPrefix(refused.MediaType, want) || !strings.Contains(err.Error(), "unsupported media type "+want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNothingToReadIsAnError(t *testing.T) {
	for _, content := range []string{"", " \n\t\r\n", strings.Repeat(" ", 1<<20), "---\n***\n", "\uFEFF", "\u00a0",
		"<html><head><script>var words</script><style>p{}</style></head><body><!-- words --><img src=x></body></html>"} {
		_, err := Extract(t.Context(), "name.html", "", []byte(content))
		nothing, ok := errors.AsType[*NoTextError](err)
		if !ok || nothing.Name != "name.html" || err.Error() != "no text found in name.html" {
			t.Errorf("%.40q: got %v", content, err)
		}
	}
}

func TestEncodingsBecomeUTF8(t *testing.T) {
	utf16 := func(s string, big bool) string {
		var b strings.Builder
		for _, r := range "\uFEFF" + s {
			high, low := byte(r>>8), byte(r)
			if !big {
				high, low = low, high
			}
			b.WriteByte(high)
			b.WriteByte(low)
		}
		return b.String()
	}
	for _, c := range []struct{ what, mediaType, content, want string }{
		{"UTF-8", "", "Grüße", "Grüße"},
		{"UTF-8 with a mark", "", "\xEF\xBB\xBFGrüße", "Grüße"},
		{"UTF-16 little endian", "", utf16("Grüße", false), "Grüße"},
		{"UTF-16 big endian", "", utf16("Grüße", true), "Grüße"},
		{"Latin-1", "", "Gr\xfc\xdfe", "Grüße"},
		{"Windows-1252", "", "\x93quoted\x94 \x80", "“quoted” €"},
		{"declared", "text/plain; charset=koi8-r", "\xd0\xd2\xc9\xd7\xc5\xd4", "привет"},
		{"declared wrongly", "text/plain; charset=iso-8859-1", "Grüße", "Grüße"},
		{"declared in the page", "", "<html><head><meta charset=windows-1251></head><body><p>\xef\xf0\xe8\xe2\xe5\xf2</p></body></html>", "привет"},
		{"Shift JIS", "text/plain; charset=shift_jis", "\x93\xfa\x96{", "日本"},
		{"ISO-2022-JP", "text/plain; charset=iso-2022-jp", "\x1b$BF|K\\\x1b(B", "日本"},
		{"damaged UTF-8", "", "äöü äöü äöü \xff äöü", "äöü äöü äöü \uFFFD äöü"},
		{"a stray NUL", "", strings.Repeat("words ", 100) + "a\x00b", strings.Repeat("words ", 100) + "ab"},
		{"line ends", "", "a\r\nb\rc\fd\u2028e", "a\nb\nc\nd\ne"},
		{"unknown charset", "text/plain; charset=nonsense", "Grüße", "Grüße"},
	} {
		d, err := Extract(t.Context(), "x", c.mediaType, []byte(c.content))
		if err != nil || d.Text != c.want {
			t.Errorf("%s: got %q, %v; want %q", c.what, d.Text, err, c.want)
		}
	}
}

const page = `<!DOCTYPE html>
<html><head><title>Tuning – The Manual</title><script>steal()</script><style>p { color: red }</style>
<link rel="stylesheet" href="http://evil.example/x.css"></head>
<body>
<nav><a href="/">Home</a> <a href="/next">Next chapter</a></nav>
<div id="content">
<h1>Tuning</h1>
<p>Memory matters <b>most</b>. Set <code>shared_buffers</code> to a quarter of it, as <a href="http://x.example/why">explained elsewhere</a>.
It is read at the start of the server, so that a change needs a restart, which is why it comes first in this list of settings.</p>
<h2>Work memory<a class="headerlink" href="#work-memory" title="Permalink to this headline">¶</a></h2>
<p>Sorting takes place in work memory, and what does not fit is written to disk, which takes its time as everybody knows who has waited for it.</p>
<ul><li>Raise it for reports</li><li>Keep it low for many sessions</li></ul>
<ol><li>First measure</li><li>Then change</li></ol>
<pre class="language-sql"><code>SET work_mem = '64MB';
SELECT * FROM a_b_c;
</code></pre>
<table><thead><tr><th>Setting</th><th>Default</th></tr></thead>
<tbody><tr><td>work_mem</td><td>4MB</td></tr><tr><td>jit</td><td>on | off</td></tr></tbody></table>
<p><img src="http://evil.example/pixel.png" alt="a chart of memory"> Text after the chart goes on for a while, so that the paragraph is long enough.</p>
</div>
<!-- a comment -->
<footer>Copyright</footer>
</body></html>`

func TestHTMLKeepsStructure(t *testing.T) {
	d, err := Extract(t.Context(), "manual.html", "", []byte(page))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Tun", "\n## Work memory\n", "Memory matters **most**. Set `shared_buffers`", "explained elsewhere", "\n- Raise it for reports\n- Keep it low",
		"1. First measure\n2. Then change", "```sql\nSET work_mem = '64MB';\nSELECT * FROM a_b_c;\n```", "| Setting | Default |", "| work_mem | 4MB |", "a chart of memory",
	} {
		if !strings.Contains(d.Text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, no := range []string{"steal", "color: red", "evil.example", "x.example", "a comment", "Next chapter", "<", `\_`, "&", "¶"} {
		if strings.Contains(d.Text, no) {
			t.Errorf("%q is there", no)
		}
	}
	if t.Failed() {
		t.Log(d.Text)
	}
}

// TestHTMLKeepsShortAndOddPages are pages on which the search for the main content finds too little.
func TestHTMLKeepsShortAndOddPages(t *testing.T) {
	for content, wants := range map[string][]string{
		"<html><head><title>Note</title></head><body>only this</body></html>": {"# Note", "only this"},
		"<p>one<p>two":                                          {"one\n\ntwo"},
		"<table><tr><td>a<td>b</table>":                         {"a", "b"},
		"<dl><dt>term<dd>meaning</dl>":                          {"term", "meaning"},
		"<html><body><pre>a\n  b</pre>":                         {"a\n  b"},
		"<div>unclosed <b>bold <i>both":                         {"unclosed", "both"},
		"<html><body><a href=x>link</a>":                        {"link"},
		"<html><body>AT&amp;T &lt;b&gt; &eacute;</body></html>": {"AT&T <b> é"},
	} {
		d, err := Extract(t.Context(), "x.html", "", []byte(content))
		if err != nil {
			t.Errorf("%q: %v", content, err)
			continue
		}
		for _, want := range wants {
			if !strings.Contains(d.Text, want) {
				t.Errorf("%q became %q without %q", content, d.Text, want)
			}
		}
	}
}

func TestHTMLNestedTooDeepIsAReason(t *testing.T) {
	_, err := Extract(t.Context(), "x.html", "", []byte("<html>"+strings.Repeat("<div>", 100_000)+"text"))
	if err == nil || !strings.Contains(err.Error(), "read HTML") {
		t.Errorf("got %v", err)
	}
}

func TestHTMLCellsSpanNoMoreThanTablesHave(t *testing.T) {
	cells := strings.Repeat("<td rowspan=90 colspan=90>y", 1000)
	d, err := Extract(t.Context(), "x.html", "", []byte("<table><tr><td rowspan=99999 colspan=99999>x<td colspan=2>z"+cells+"</table>"))
	if err != nil || !strings.Contains(d.Text, "x") || len(d.Text) > 1<<20 {
		t.Errorf("%d bytes, %v", len(d.Text), err)
	}
}

func FuzzExtract(f *testing.F) {
	for _, seed := range []string{page, "# a\n\nb", "plain", "\xff\xfeA\x00", "<p>x", "<table><tr><td rowspan=99999 colspan=99999>x</table>", "<?xml?><html>", "<pre>`````x", "\x1b$B"} {
		f.Add("x.html", "", []byte(seed))
		f.Add("x.md", "text/plain; charset=iso-2022-jp", []byte(seed))
	}
	f.Fuzz(func(t *testing.T, name, mediaType string, content []byte) {
		d, err := Extract(t.Context(), name, mediaType, content)
		if err != nil {
			return
		}
		if !utf8.ValidString(d.Text) || strings.ContainsRune(d.Text, 0) {
			t.Errorf("the text cannot be stored: %q", d.Text)
		}
	})
}
