package tokenizer

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The constants and ranges of testdata/make_reference.py.
const (
	pieceRunes = 2048
	totalRunes = 1_300_000
)

var runeRanges = [][2]rune{
	{0x0000, 0x024F}, {0x0250, 0x036F}, {0x0370, 0x052F}, {0x0590, 0x06FF},
	{0x0900, 0x0BFF}, {0x0E00, 0x0EFF}, {0x10A0, 0x11FF}, {0x1E00, 0x1FFF},
	{0x2000, 0x2BFF}, {0x3000, 0x30FF}, {0x4E00, 0x9FFF}, {0xAC00, 0xD7A3},
	{0xE000, 0xF8FF}, {0xFB00, 0xFFFD}, {0x10330, 0x1034A}, {0x1D400, 0x1D7FF},
	{0x1F300, 0x1FAFF}, {0xF0000, 0xF00FF}, {0x100000, 0x1000FF},
}

var oddSpaces = []rune(" \t\n\r\u00a0\u3000\u2028\u0085")

// random is Knuth's MMIX linear congruential generator, its upper 31 bits.
type random struct{ state uint64 }

func (r *random) below(n int) int {
	r.state = r.state*6364136223846793005 + 1442695040888963407
	return int((r.state >> 33) % uint64(n))
}

// mixedText is make_text of testdata/make_reference.py, character by character.
func mixedText(t testing.TB) []rune {
	seed := []rune(strings.Repeat(testFile(t, "languages.txt"), 6) + testFile(t, "prose.txt") + testFile(t, "code.txt"))
	r := &random{state: 1}
	var out []rune
	for len(out) < totalRunes {
		start := r.below(len(seed))
		piece := slices.Clone(seed[start:min(start+1+r.below(300), len(seed))])
		switch r.below(8) {
		case 0: // any characters
			for range 1 + r.below(12) {
				between := runeRanges[r.below(len(runeRanges))]
				at := r.below(len(piece) + 1)
				piece = slices.Insert(piece, at, between[0]+rune(r.below(int(between[1]-between[0]+1))))
			}
		case 1: // case
			for range 1 + r.below(20) {
				c := &piece[r.below(len(piece))]
				if 'a' <= *c && *c <= 'z' || 'A' <= *c && *c <= 'Z' {
					*c ^= 0x20
				}
			}
		case 2: // spacing
			for range 1 + r.below(10) {
				at := r.below(len(piece) + 1)
				space := oddSpaces[r.below(len(oddSpaces))]
				for range 1 + r.below(4) {
					piece = slices.Insert(piece, at, space)
				}
			}
		case 3: // joined words
			piece = slices.DeleteFunc(piece, func(c rune) bool { return c == ' ' })
		}
		out = append(out, piece...)
	}
	return out[:totalRunes]
}

func testFile(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
