package eval

import (
	"math"
	"testing"
)

func TestRefusalsAt(t *testing.T) {
	own := []float64{0.9, 0.8, 0.5, 0.45, 0.2, allWords, 0.7, 0.6, 0.55, 0.65}
	off := []float64{0.1, 0.3, 0.2, 0.4, 0.15, 0.25, 0.35, 0.4512, 0.05, allWords}
	want := []RefusalScore{
		{0.3, 0.5, 0.1},   // in use: what is just there is not refused
		{0.251, 0.5, 0.1}, // the fifth is at 0.25
		{0.401, 0.8, 0.1},
		{0.452, 0.9, 0.2}, // rounded up; the tenth has all its words and is never refused
	}
	got := refusalsAt(own, off, 0.3)
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if d := math.Abs(got[i].MinSimilarity - want[i].MinSimilarity); !(d < 1e-9) || got[i].Refused != want[i].Refused || got[i].Lost != want[i].Lost {
			t.Errorf("row %d: got %v, want %v", i, got[i], want[i])
		}
	}
	if got := refusalsAt(nil, off, 0.3); got != nil {
		t.Errorf("without questions: %v", got)
	}
	if got := refusalsAt(own, nil, 0.3); got != nil {
		t.Errorf("without off-topic questions: %v", got)
	}
}
