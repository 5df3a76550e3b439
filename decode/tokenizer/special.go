package tokenizer

import (
	"slices"
	"strings"
)

// specials are the control and user-defined tokens, found by their names.
type specials struct {
	byFirst  [256][]special // by the name's first byte, longest name first
	controls []int32        // sorted
}

type special struct {
	name string
	id   int32
}

// add files a token; ids come in ascending order, and sort follows the last
// one. An empty name is never found.
func (s *specials) add(name string, id int32, control bool) {
	if control {
		s.controls = append(s.controls, id)
	}
	if name == "" {
		return
	}
	s.byFirst[name[0]] = append(s.byFirst[name[0]], special{name, id})
}

// sort puts the longest names first.
func (s *specials) sort() {
	for i := range s.byFirst {
		slices.SortStableFunc(s.byFirst[i], func(a, b special) int { return len(b.name) - len(a.name) })
	}
}

func (s *specials) control(id int32) bool {
	_, found := slices.BinarySearch(s.controls, id)
	return found
}

// match finds the longest special token at text[i:] that touches no literal
// span; length 0 means none.
func (s *specials) match(text string, i int, literal spans) (id int32, length int) {
	for _, t := range s.byFirst[text[i]] {
		if strings.HasPrefix(text[i:], t.name) && !literal.touch(i, i+len(t.name)) {
			return t.id, len(t.name)
		}
	}
	return 0, 0
}

// spans are byte ranges [start, end), sorted and apart.
type spans [][2]int

func newSpans(given [][2]int) spans {
	sorted := slices.Clone(given)
	slices.SortFunc(sorted, func(a, b [2]int) int { return a[0] - b[0] })
	var joined spans
	for _, s := range sorted {
		switch n := len(joined); {
		case s[0] >= s[1]:
		case n > 0 && s[0] <= joined[n-1][1]:
			joined[n-1][1] = max(joined[n-1][1], s[1])
		default:
			joined = append(joined, s)
		}
	}
	return joined
}

// touch tells whether [start, end) shares a byte with one of the spans.
func (s spans) touch(start, end int) bool {
	i, _ := slices.BinarySearchFunc(s, start, func(span [2]int, at int) int {
		if span[1] <= at {
			return -1
		}
		return 1
	})
	return i < len(s) && s[i][0] < end
}
