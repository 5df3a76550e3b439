package ingest

import (
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/sentences"
)

// atom is what is never cut: a sentence, a line of long code, a row, a heading. An atom reaches to the start of
// the next one, so that the tokens of a passage are nearly the sum of its atoms'.
type atom struct {
	start, end int
	tokens     int
	kind       blockKind
	last       bool // the last of its block: a better place to cut than between sentences
	lead       span // the header of the table that a row belongs to
}

// atomise cuts blocks into atoms of at most limit tokens, in time linear in the text. Code and rows are kept
// whole up to whole tokens, the most that a passage may have.
func atomise(text string, blocks []block, t TokenCounter, limit, whole int) []atom {
	var atoms []atom
	for i, b := range blocks {
		next := len(text)
		if i+1 < len(blocks) {
			next = blocks[i+1].start
		}
		first := len(atoms)
		// Counting the whole block is worth it where the block is kept whole.
		if b.kind != paragraph {
			if tokens := boundedCount(text[b.start:next], t, whole); tokens <= whole {
				atoms = append(atoms, atom{b.start, next, tokens, b.kind, true, b.lead})
				continue
			}
		}
		for _, end := range cuts(text, b, next) {
			start := b.start
			if len(atoms) > first {
				start = atoms[len(atoms)-1].end
			}
			atoms = appendSplit(atoms, text, start, end, b.kind, t, limit)
		}
		for i := range atoms[first:] {
			atoms[first+i].lead = b.lead
		}
		atoms[len(atoms)-1].last = true
	}
	return atoms
}

// cuts returns the ends of the parts of a block: sentences of prose (UAX #29), lines of anything else.
func cuts(text string, b block, next int) []int {
	body := text[b.start:b.end]
	var ends []int
	if b.kind == paragraph {
		// UAX #29 ends a sentence at every line break; here a paragraph's are only its layout.
		it := sentences.FromString(strings.ReplaceAll(body, "\n", " "))
		for it.Next() {
			ends = append(ends, b.start+it.End())
		}
	} else {
		for at := 0; ; {
			newline := strings.IndexByte(body[at:], '\n')
			if newline < 0 {
				break
			}
			at += newline + 1
			ends = append(ends, b.start+at)
		}
	}
	if n := len(ends); n > 0 && ends[n-1] == b.end {
		ends[n-1] = next
		return ends
	}
	return append(ends, next)
}

// windowBytes is the size of the parts that a text without structure is cut into first.
const windowBytes = 1024

// appendSplit appends text[start:end] as one atom, or as several where it is larger than limit.
func appendSplit(atoms []atom, text string, start, end int, kind blockKind, t TokenCounter, limit int) []atom {
	if end-start > 16*windowBytes { // too long for any limit worth having: do not count it first
		return appendWindows(atoms, text, start, end, kind, t, limit)
	}
	tokens := t.Count(text[start:end])
	if tokens <= limit {
		return append(atoms, atom{start: start, end: end, tokens: tokens, kind: kind})
	}
	if end-start > windowBytes {
		return appendWindows(atoms, text, start, end, kind, t, limit)
	}
	middle := cutNear(text, start, end, start+(end-start)/2)
	if middle <= start || middle >= end { // a single character
		return append(atoms, atom{start: start, end: end, tokens: tokens, kind: kind})
	}
	atoms = appendSplit(atoms, text, start, middle, kind, t, limit)
	return appendSplit(atoms, text, middle, end, kind, t, limit)
}

func appendWindows(atoms []atom, text string, start, end int, kind blockKind, t TokenCounter, limit int) []atom {
	for start < end {
		cut := end
		if end-start > windowBytes {
			cut = cutNear(text, start, end, start+windowBytes)
			if cut <= start {
				cut = end
			}
		}
		atoms = appendSplit(atoms, text, start, cut, kind, t, limit)
		start = cut
	}
	return atoms
}

// cutNear returns a place after start and at or before at to cut: behind a space of the second half if there
// is one, at a rune boundary otherwise. Where the first rune is longer than that, its end.
func cutNear(text string, start, end, at int) int {
	half := start + (at-start)/2
	if space := strings.LastIndexAny(text[half:at], " \t\n"); space >= 0 && half+space+1 > start {
		return half + space + 1
	}
	for at > start && !utf8.RuneStart(text[at]) {
		at--
	}
	if at > start {
		return at
	}
	_, size := utf8.DecodeRuneInString(text[start:end])
	return start + size
}

// boundedCount counts at most as much text as can matter for a comparison with limit.
func boundedCount(s string, t TokenCounter, limit int) int {
	if len(s) > 16*windowBytes {
		return limit + 1
	}
	return t.Count(s)
}
