package eval

import (
	"math"
	"testing"

	"lessrag/cmd/api/answer"
)

func TestScoreReplies(t *testing.T) {
	report := func(ttft float64) (r answer.Report) {
		r.Timing.TTFTMS, r.Memory.HeldBytes = ttft, 1000
		return r
	}
	score := scoreReplies(answer.Reading{Cache: "sinks", Budget: "10%"}, []Reply{
		{Match: true, F1: 0.5, Citations: 3, Right: 2, Report: report(10)},
		{F1: 0.1, Citations: 1, Report: report(30)},
		{F1: 0, Report: report(20)},
		{Refused: true, Report: report(1)},
	})
	want := AnswerScore{Cache: "sinks", Budget: "10%", Questions: 4, Refused: 1, Match: 0.25, TokenF1: 0.15, Cited: 0.5,
		CitationPrecision: 0.5, TTFTMS: 20, HeldBytes: 1000}
	if !(math.Abs(score.TokenF1-want.TokenF1) <= 1e-12) {
		t.Errorf("F1 %v", score.TokenF1)
	}
	score.TokenF1 = want.TokenF1
	if score != want {
		t.Errorf("got %+v, want %+v", score, want)
	}
	if empty := scoreReplies(answer.Reading{}, nil); empty != (AnswerScore{}) {
		t.Errorf("no replies: %+v", empty)
	}
}
