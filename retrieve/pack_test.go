package retrieve

import (
	"strings"
	"testing"
)

// wordCounter counts words.
type wordCounter struct{}

func (wordCounter) Count(text string) int { return len(strings.Fields(text)) }

func passage(name, text string, start int) Passage {
	return Passage{DocumentID: name, Document: Document{Name: name}, Text: text, Start: start, End: start + len(text)}
}

func TestPack(t *testing.T) {
	a := passage("a", "one two three four five", 0)
	b := passage("b", strings.Repeat("long ", 30)+"passage", 0)
	c := passage("c", "six seven eight", 0)
	again := passage("d", "One, two, three: four five!", 900)
	inside := passage("a", "three four five", 8)
	words := func(n int, p Passage) int { return wordCounter{}.Count(block(n, p)) }
	for _, k := range []struct {
		name     string
		passages []Passage
		budget   int
		want     string
		dropped  int
	}{
		{"all fit", []Passage{a, b, c}, 1000, "a b c", 0},
		{"exactly", []Passage{a, c}, words(1, a) + words(2, c), "a c", 0},
		{"one short", []Passage{a, c}, words(1, a) + words(2, c) - 1, "a", 1},
		{"the long one does not fit", []Passage{a, b, c}, words(1, a) + words(2, c), "a c", 1},
		{"the same words elsewhere", []Passage{a, again, c}, 1000, "a c", 1},
		{"a part of another", []Passage{a, inside, c}, 1000, "a c", 1},
		{"the better one stays", []Passage{inside, a}, 1000, "a", 1},
		{"no budget", []Passage{a}, 0, "", 1},
		{"nothing", nil, 10, "", 0},
	} {
		kept, dropped := Pack(k.passages, wordCounter{}, k.budget)
		if names(kept) != k.want || dropped != k.dropped {
			t.Errorf("%s: kept %q and dropped %d, want %q and %d", k.name, names(kept), dropped, k.want, k.dropped)
		}
	}
}

func TestTold(t *testing.T) {
	port := passage("port", "The backup uses port 8873. It can be changed in the configuration.", 0)
	disk := passage("disk", "A full disk stops the backup.", 0)
	part := port
	part.Text, part.End = port.Text[:26], port.Start+26
	for _, c := range []struct {
		name     string
		given    []Passage
		found    []Passage
		question string
		want     bool
	}{
		{"all of it", []Passage{disk, port}, []Passage{port, disk}, "Can the port be changed?", true},
		{"other forms of the words", []Passage{port}, []Passage{port}, "And how do I change ports?", true},
		{"a part of what was given", []Passage{port}, []Passage{part, disk}, "Which port is it?", true},
		{"a word that was not told", []Passage{port}, []Passage{port, disk}, "Does the port need a restart?", false},
		{"another passage is better", []Passage{port}, []Passage{disk, port}, "Can the backup be changed?", false},
		{"nothing given", nil, []Passage{port}, "Which port?", false},
		{"nothing found", []Passage{port}, nil, "Which port?", false},
		{"nothing said", []Passage{port}, []Passage{port}, "Why?", true},
		{"a heading tells it", []Passage{{DocumentID: "h", Text: "It is 8873.", End: 11, HeadingPath: []string{"Ports"}}}, []Passage{{DocumentID: "h", Text: "It is 8873.", End: 11}}, "Which port?", true},
	} {
		if got := Told(c.given, c.found, c.question); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestDistinct(t *testing.T) {
	neighbours := []Passage{passage("a", "alpha beta gamma delta", 0), passage("a", "delta epsilon zeta eta", 17)}
	if got := len(distinct(neighbours)); got != 2 {
		t.Errorf("neighbours that share a word: %d of 2 stay", got)
	}
	if got := len(distinct([]Passage{passage("a", "…", 0), passage("b", "!", 0)})); got != 2 {
		t.Errorf("passages without words: %d of 2 stay", got)
	}
}
