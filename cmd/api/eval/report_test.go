package eval

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"

	"lessrag/retrieve"
)

// TestReport holds the page to be one well-formed drawing with every value.
func TestReport(t *testing.T) {
	e := Set{
		Retrieval: []RetrievalScore{{"a & b", "hybrid", retrieve.RetrievalScores{Recall1: 0.5, Recall5: 0.75, Recall10: 0.875}},
			{"<c>", "vector", retrieve.RetrievalScores{Recall1: 0.25}}},
		Refusal: []RefusalScore{{MinSimilarity: 0.3, Refused: 0.9, Lost: 0.025}},
		Answers: []AnswerScore{{Cache: "sinks", Budget: "10%", Match: 0.4, CitationPrecision: 0.625, HeldBytes: 3 << 20}},
	}
	page := e.Report()
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
	if page := e.Report(); strings.Contains(page, "MiB") || strings.Contains(page, "a &amp; b") || !strings.Contains(page, ">hybrid<") {
		t.Errorf("retrieval alone of one collection gave %s", page)
	}
}
