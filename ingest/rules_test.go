package ingest

import (
	"reflect"
	"strings"
	"testing"

	"lessrag/ingest/extract"
)

func TestChunkEndsAtRules(t *testing.T) {
	long := strings.TrimSpace(strings.Repeat("Word word word word word word. ", 4)) // 24 words: two would fit together
	other := strings.ReplaceAll(long, "ord", "eb")
	for _, mark := range []string{"---", "* * *", "___", "-----  "} {
		text := "# Guide\n\n***\n\nSince 2.0\n\n***\n\n" + long + "\n\n" + mark + "\n\n" + other + "\n\n## Below\n\n" + long + "\n"
		chunks := checkChunks(t, extract.Document{Text: text, Markdown: true}, wordCounter{}, chunkSizes{target: 60, max: 60})
		if len(chunks) != 3 || chunks[1].Text != other {
			t.Fatalf("%s: got %q", mark, texts(chunks))
		}
		if !reflect.DeepEqual(chunks[1].HeadingPath, []string{"Guide"}) {
			t.Errorf("%s: what stands below the rule stands under %q", mark, chunks[1].HeadingPath)
		}
		// The section of the heading goes on below the rule; what is below the rule is a section of its own.
		if c := chunks[0]; c.SectionStart != 0 || c.SectionEnd != len(text) {
			t.Errorf("%s: the section of the first is [%d,%d) of %d", mark, c.SectionStart, c.SectionEnd, len(text))
		}
		if c := chunks[1]; text[c.SectionStart:c.SectionEnd] != other+"\n\n" {
			t.Errorf("%s: the section of the second is %q", mark, text[c.SectionStart:c.SectionEnd])
		}
	}
	// What stands below a title and a line is not parted from them.
	text := "# Guide\n\nSince 2.0\n\n***\n\n" + strings.Repeat("Word word word word. ", 10) + "\n"
	if chunks := checkChunks(t, extract.Document{Text: text, Markdown: true}, wordCounter{}, testSizes); !strings.Contains(chunks[0].Text, "Word") {
		t.Errorf("got %q", texts(chunks))
	}
	// No rules: the underline of a heading, and lines of a fence.
	text = "Guide\n---\n\n```\na\n---\nb\n```\n\n" + long + "\n"
	if chunks := checkChunks(t, extract.Document{Text: text, Markdown: true}, wordCounter{}, testSizes); len(chunks) != 1 {
		t.Errorf("got %q", texts(chunks))
	}
}
