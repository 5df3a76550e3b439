package answer

import (
	"strings"
	"testing"
)

func TestRepetition(t *testing.T) {
	for _, test := range []struct {
		name, text, shown string
		looped            bool
	}{
		{"nothing twice", "The cache is fixed. It never grows. ", "The cache is fixed. It never grows. ", false},
		{"a sentence again", "The cache is fixed. It never grows. The cache is fixed. More.", "The cache is fixed. It never grows. ", true},
		{"at once", "The cache is fixed.\n\nThe cache is fixed.\n\n", "The cache is fixed.\n\n", true},
		{"only the beginning again", "The cache is fixed. The cache is small. ", "The cache is fixed. The cache is small. ", false},
		{"short words may come again", "Yes. Yes. Yes. It is. ", "Yes. Yes. Yes. It is. ", false},
		{"again at the end of the text", "The cache is fixed. The cache is fixed.", "The cache is fixed. ", false},
		{"cut off in the middle", "The cache is fixed. The cache", "The cache is fixed. The cache", false},
		{"a number's point ends nothing", "It takes 2.5 MB of memory. It takes 2.7 MB of memory. ", "It takes 2.5 MB of memory. It takes 2.7 MB of memory. ", false},
		{"a line drawn with dashes", strings.Repeat("-", 80) + " ends. ", strings.Repeat("-", 80) + " ends. ", false},
		{"a wide table", strings.Repeat("|---", 12) + "|\n", strings.Repeat("|---", 12) + "|\n", false},
		{"many bytes in a letter", "Größe ist größer als groß. Größe ist größte. Größe ist größer als groß. ", "Größe ist größer als groß. Größe ist größte. ", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for size := 1; size <= len(test.text); size++ {
				shown, looped := feed(test.text, size)
				if shown != test.shown || looped != test.looped {
					t.Fatalf("in pieces of %d: shown %q, looped %v", size, shown, looped)
				}
			}
		})
	}
}

// TestCircling: a phrase that comes again and again inside one sentence ends it.
func TestCircling(t *testing.T) {
	shown, looped := feed("The path is Debian"+strings.Repeat(" > workers", 40), 3)
	if !looped || strings.Count(shown, "> workers") > 4 {
		t.Errorf("shown %q, looped %v", shown, looped)
	}
}

// feed pushes text in pieces of size bytes.
func feed(text string, size int) (string, bool) {
	var r repetition
	var shown strings.Builder
	for text != "" {
		n := min(size, len(text))
		out, looped := r.push(text[:n])
		shown.WriteString(out)
		if looped {
			return shown.String(), true
		}
		text = text[n:]
	}
	shown.WriteString(r.flush())
	return shown.String(), false
}
