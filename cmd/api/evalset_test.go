package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lessrag/cmd/api/answer"
	"lessrag/retrieve"
)

func TestReadSet(t *testing.T) {
	for _, test := range []struct{ name, content, want string }{
		{"good", `{"question":"Why?","answers":["so"],"source":"a.md"}` + "\n\n" + `{"question":"How?","source":"b.md","section":"Like this."}` + "\n", ""},
		{"no JSON", `{"question":"Why?","source":"a"}` + "\nWhy?\n", "line 2"},
		{"an unknown field", `{"question":"Why?","source":"a","anwsers":[]}`, "anwsers"},
		{"no question", `{"source":"a"}`, "line 1"},
		{"no source", `{"question":"Why?"}`, "line 1"},
		{"nothing", "\n", "no questions"},
		{"a line without end", strings.Repeat("x", maxSetLine+1), "line 1"},
	} {
		path := filepath.Join(t.TempDir(), "set.jsonl")
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		questions, err := readSet(path, true)
		switch {
		case test.want == "" && (err != nil || len(questions) != 2 || questions[1].Section != "Like this."):
			t.Errorf("%s: %v, %v", test.name, questions, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: error %v does not say %q", test.name, err, test.want)
		}
	}
}

func TestEvalLogGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	measured := 0
	measure := func(value int) func() (int, error) {
		return func() (int, error) { measured++; return value, nil }
	}
	open := func() *evalLog {
		t.Helper()
		l, err := openEvalLog(path)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	get := func(l *evalLog, mode string, value int) int {
		t.Helper()
		got, err := remembered(l, evalKey{Question: "Why?", Mode: mode}, measure(value))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}

	l := open()
	get(l, "hybrid", 3)
	get(l, "vector", 4)
	if _, err := remembered(l, evalKey{Mode: "lexical"}, func() (int, error) { return 0, errors.New("lost") }); err == nil {
		t.Error("a failed measurement is no error")
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	// An interruption in the middle of a line.
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content[:len(content)-4], 0o600); err != nil {
		t.Fatal(err)
	}

	l = open()
	if got := get(l, "hybrid", 9); got != 3 || measured != 2 {
		t.Errorf("measured again: %d after %d measurements", got, measured)
	}
	if got := get(l, "vector", 5); got != 5 || measured != 3 {
		t.Errorf("a line that was cut off gave %d after %d measurements", got, measured)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	l = open()
	if got := get(l, "vector", 9); got != 5 {
		t.Errorf("after two interruptions: %d", got)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(path, []byte("{\"question\":\"not a log\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openEvalLog(path); err == nil || !usedWrongly(err) {
		t.Errorf("another file was taken for a log: %v", err)
	}
}

func TestScoreReplies(t *testing.T) {
	report := func(ttft float64) (r answer.Report) {
		r.Timing.TTFTMS, r.Memory.HeldBytes = ttft, 1000
		return r
	}
	score := scoreReplies(answer.Reading{Cache: "sinks", Budget: "10%"}, []reply{
		{Match: true, F1: 0.5, Citations: 3, Right: 2, Report: report(10)},
		{F1: 0.1, Citations: 1, Report: report(30)},
		{F1: 0, Report: report(20)},
		{Refused: true, Report: report(1)},
	})
	want := answerScore{Cache: "sinks", Budget: "10%", Questions: 4, Refused: 1, Match: 0.25, TokenF1: 0.15, Cited: 0.5,
		CitationPrecision: 0.5, TTFTMS: 20, HeldBytes: 1000}
	if !(math.Abs(score.TokenF1-want.TokenF1) <= 1e-12) {
		t.Errorf("F1 %v", score.TokenF1)
	}
	score.TokenF1 = want.TokenF1
	if score != want {
		t.Errorf("got %+v, want %+v", score, want)
	}
	if empty := scoreReplies(answer.Reading{}, nil); empty != (answerScore{}) {
		t.Errorf("no replies: %+v", empty)
	}
}

func TestRefusalsAt(t *testing.T) {
	own := []float64{0.9, 0.8, 0.5, 0.45, 0.2, allWords, 0.7, 0.6, 0.55, 0.65}
	off := []float64{0.1, 0.3, 0.2, 0.4, 0.15, 0.25, 0.35, 0.4512, 0.05, allWords}
	want := []refusalScore{
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

// TestReport holds the page to be one well-formed drawing with every value.
func TestReport(t *testing.T) {
	e := evaluation{
		Retrieval: []retrievalScore{{"a & b", "hybrid", retrieve.RetrievalScores{Recall1: 0.5, Recall5: 0.75, Recall10: 0.875}},
			{"<c>", "vector", retrieve.RetrievalScores{Recall1: 0.25}}},
		Refusal: []refusalScore{{MinSimilarity: 0.3, Refused: 0.9, Lost: 0.025}},
		Answers: []answerScore{{Cache: "sinks", Budget: "10%", Match: 0.4, CitationPrecision: 0.625, HeldBytes: 3 << 20}},
	}
	page := e.report()
	d := xml.NewDecoder(strings.NewReader(page))
	drawings := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, page)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "svg" {
			drawings++
		}
	}
	if drawings != 1 {
		t.Errorf("%d drawings", drawings)
	}
	for _, want := range []string{"a &amp; b, hybrid", "&lt;c&gt;, vector", ">0.500<", ">0.750<", ">0.875<", ">0.900<", ">0.025<", "sinks@10%", ">0.400<", ">0.625<", ">3.0<"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	e.Answers, e.Refusal, e.Retrieval = nil, nil, e.Retrieval[:1]
	if page := e.report(); strings.Contains(page, "MiB") || strings.Contains(page, "a &amp; b") || !strings.Contains(page, ">hybrid<") {
		t.Errorf("retrieval alone of one collection gave %s", page)
	}
}
