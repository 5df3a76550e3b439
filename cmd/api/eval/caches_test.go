package eval

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"lessrag/decode"
	"lessrag/decode/model"
	"lessrag/decode/recall"
)

func TestParseEntry(t *testing.T) {
	for text, want := range map[string]Entry{
		"vote@10%":        {share: 0.1},
		"snapkv@400":      {tokens: 400},
		"h2o+moment@2.5%": {share: 0.025},
		"full":            {},
	} {
		got, err := ParseEntry(text)
		if err != nil || got.share != want.share || got.tokens != want.tokens || got.Text != text || !strings.HasPrefix(text, got.Spec.String()) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"vote", "full@10%", "vote@", "vote@0%", "vote@101%", "vote@NaN%", "vote@-4", "vote@ten", "nothing@5%", "elastic+less@5%"} {
		if got, err := ParseEntry(text); err == nil {
			t.Errorf("%s: %+v, want an error", text, got)
		}
	}
}

// The answer's tokens count, its beginning does not.
func TestNewRecalled(t *testing.T) {
	p := recall.Encoded{Prompt: recall.Prompt{ID: "x", Kind: recall.Natural}, Tokens: make([]int32, 50), PrefixTokens: []int32{1, 2}, GoldTokens: []int32{3, 4}}
	r := &decode.Result{Scores: []model.Score{{NLL: 9, Best: 7}, {NLL: 9, Best: 7}, {NLL: 1, Best: 3}, {NLL: 0.5, Best: 4}}}
	if o := newRecalled(p, Entry{Text: "vote@5%"}, r); o.LogP != -0.75 || !o.Exact || o.Tokens != 50 || o.Cache != "vote@5%" {
		t.Errorf("%+v", o)
	}
	r.Scores[3].Best = 5
	if o := newRecalled(p, Entry{}, r); o.Exact {
		t.Error("an answer with another token is exact")
	}
}

// someRecalled is two prompts of each kind under three caches.
func someRecalled() ([]Recalled, []Entry) {
	var all []Recalled
	entries := []Entry{{Text: "full"}, {Text: "vote@10%"}, {Text: "snapkv@10%"}}
	for kind, logP := range map[recall.Kind][3]float64{recall.Synthetic: {-0.5, -0.25, -1.5}, recall.Natural: {-1, -1.005, -1}} {
		for i, id := range []string{"a", "b"} {
			for j, e := range entries {
				all = append(all, Recalled{Prompt: string(kind) + id, Kind: string(kind), Length: 2000 + 2000*i, Cache: e.Text, LogP: logP[j], Exact: j < 1+i, PlanBytes: 1 << 20})
			}
		}
	}
	return all, entries
}

func TestScoreRecall(t *testing.T) {
	outcomes, entries := someRecalled()
	scores := ScoreRecall(outcomes, entries, "snapkv@10%")
	if len(scores) != 2*3*3 {
		t.Fatalf("%d scores", len(scores))
	}
	for _, s := range scores {
		if s.Length != 0 || s.Cache != "vote@10%" {
			continue
		}
		want := RecallScore{Cache: s.Cache, Kind: "synthetic", Prompts: 2, LogP: -0.25, Loss: -0.25, Exact: 0.5, Differ: 2, Better: 2, OneExact: 1, Alone: 1, PlanBytes: 1 << 20}
		if s.Kind == "natural" {
			want.Kind, want.LogP, want.Loss, want.Differ, want.Better = "natural", -1.005, 0.005, 0, 0
		}
		if !(math.Abs(s.Loss-want.Loss) < 1e-9) {
			t.Errorf("%s: loss %v, want %v", s.Kind, s.Loss, want.Loss)
		}
		s.Loss = want.Loss
		if s != want {
			t.Errorf("%+v, want %+v", s, want)
		}
	}
}

// Tables name what they show, and figures are well-formed and the same each time.
func TestShowCaches(t *testing.T) {
	outcomes, entries := someRecalled()
	e := Caches{Against: "snapkv@10%", Outcomes: outcomes, Recall: ScoreRecall(outcomes, entries, "snapkv@10%"),
		Perplexity: []PerplexityScore{{Cache: "sinks@10%", Tokens: 99, NLL: 2, Loss: 0.1, Perplexity: 7.4}}}
	var table bytes.Buffer
	if err := e.Print(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"synthetic  all     vote@10%    2  -0.250      -0.250  50%    2 of 2                    1 of 1", "held-out pages  sinks@10%"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("%q is not in\n%s", want, table.String())
		}
	}
	first, second := t.TempDir(), t.TempDir()
	for _, dir := range []string{first, second} {
		if err := e.Plot(dir); err != nil {
			t.Fatal(err)
		}
	}
	for name, marks := range map[string]map[string]int{"answers": {"rect": 2 + 3*2}, "exact": {"rect": 2 + 3*2}, "bytes": {"circle": 3}} {
		a, err := os.ReadFile(plotPath(first, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(plotPath(second, name))
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: another figure the second time (%v)", name, err)
		}
		found := map[string]int{}
		d := xml.NewDecoder(bytes.NewReader(a))
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if start, ok := token.(xml.StartElement); ok {
				found[start.Name.Local]++
			}
		}
		for mark, n := range marks {
			if found[mark] != n {
				t.Errorf("%s has %d of %s, want %d: two of the legend and six bars, or one for each cache", name, found[mark], mark, n)
			}
		}
	}
}
