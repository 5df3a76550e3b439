package retrieve

import (
	"math"
	"strings"
	"testing"
)

func TestScoreRanks(t *testing.T) {
	// What ir-measures gives for R@1, R@5, R@10, RR@10 and nDCG@10 on one relevant document each.
	got := ScoreRanks([]int{1, 2, 5, 6, 11, 0})
	want := RetrievalScores{Questions: 6, Recall1: 1. / 6, Recall5: 3. / 6, Recall10: 4. / 6,
		MRR:    (1 + 1./2 + 1./5 + 1./6) / 6,
		NDCG10: (1 + 1/math.Log2(3) + 1/math.Log2(6) + 1/math.Log2(7)) / 6}
	for _, c := range [][2]float64{{got.Recall1, want.Recall1}, {got.Recall5, want.Recall5}, {got.Recall10, want.Recall10}, {got.MRR, want.MRR}, {got.NDCG10, want.NDCG10}} {
		if !(math.Abs(c[0]-c[1]) <= 1e-12) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if empty := ScoreRanks(nil); empty != (RetrievalScores{}) {
		t.Errorf("no questions: %+v", empty)
	}
}

func TestExpectedHolds(t *testing.T) {
	const section = "Call the freeze method before the first frost comes and leave it on until spring has come to stay."
	passage := func(name, text string) Passage { return Passage{Document: Document{Name: name}, Text: text} }
	for _, test := range []struct {
		name, source, section string
		passage               Passage
		want                  bool
	}{
		{"the document alone", "b/page.html", "", passage("a/b/page.html", "anything"), true},
		{"a longer name with the same end", "age.html", "", passage("a/b/page.html", "anything"), false},
		{"its source", "page.html", "", Passage{Document: Document{Name: "upload", Source: "/x/page.html"}}, true},
		{"the section inside a longer passage", "page.html", section, passage("page.html", strings.Repeat("other words of it ", 40)+section), true},
		{"a passage inside a longer section", "page.html", strings.Repeat("some more words to pass by ", 50) + section, passage("page.html", section), true},
		{"another section", "page.html", section, passage("page.html", "Call the thaw method after the last frost has gone and leave it off until autumn comes back again."), false},
		{"the section in another document", "page.html", section, passage("other.html", section), false},
		{"a short section", "page.html", "Yes, always.", passage("page.html", "Is it so? Yes, always. And more of the same."), true},
		{"a short section that is not there", "page.html", "Yes, never.", passage("page.html", "Is it so? Yes, always. And more of the same."), false},
	} {
		e := Expected{Source: test.source, Section: test.section}
		if got := e.Holds(test.passage); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
		if rank := e.Rank([]Passage{passage("none", ""), test.passage}); (rank == 2) != test.want || rank == 1 {
			t.Errorf("%s: rank %d", test.name, rank)
		}
	}
}

func TestAnswerMetrics(t *testing.T) {
	for _, test := range []struct {
		answer   string
		expected []string
		match    bool
		f1       float64
	}{
		{"It was opened on 4 May 1974 [1].", []string{"4 May 1974"}, true, 2 * 3. / (7 + 3)},
		{"The U.S. Navy", []string{"us navy"}, true, 1},
		{"Fourteen", []string{"four"}, false, 0},
		{"nothing of it", nil, false, 0},
		{"", []string{"x"}, false, 0},
		{"a b c", []string{"c d", "b c"}, true, 1},
		{"yes [1, 2]", []string{"1"}, false, 0},
		{"word", []string{"..."}, false, 0},
	} {
		if got := ContainsMatch(test.answer, test.expected); got != test.match {
			t.Errorf("ContainsMatch(%q, %q) = %v", test.answer, test.expected, got)
		}
		if got := TokenF1(test.answer, test.expected); !(math.Abs(got-test.f1) <= 1e-12) {
			t.Errorf("TokenF1(%q, %q) = %v, want %v", test.answer, test.expected, got, test.f1)
		}
	}
}
