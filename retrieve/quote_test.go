package retrieve

import (
	"context"
	"errors"
	"testing"
)

func TestQuote(t *testing.T) {
	s := New(nil, bagEmbedder{"bag"}, nil)
	for question, want := range map[string]string{
		"How long do whales sing?":             "Whales dive deep and sing to each other for hours.",
		"What does a blue whale weigh?":        "A blue whale weighs 150 tonnes.",
		"Does it evict the oldest first?":      "It evicts the oldest token\nfirst, and keeps four sinks.",
		"Is there anything about bananas here": "The cache holds 32 bytes for every token.",
	} {
		c, found, err := s.Quote(t.Context(), question, "", 7, evidencePassages)
		if err != nil || !found || c.Quote != want && question != "Is there anything about bananas here" {
			t.Errorf("%q: quoted %q, %v, %v", question, c.Quote, found, err)
		}
		p := evidencePassages[c.Marker-1]
		if c.PassageID != p.ID || p.Text[c.QuoteStart-p.Start:c.QuoteEnd-p.Start] != c.Quote || c.Start != 7 || c.End != 7 || c.Origin != Extracted {
			t.Errorf("%q: cited as %+v", question, c)
		}
	}
	for _, none := range [][]Passage{nil, {{Text: "# Heading"}}, {{Text: " "}}} {
		if c, found, err := s.Quote(t.Context(), "What?", "", 0, none); found || err != nil {
			t.Errorf("quoted %+v of %v, %v", c, none, err)
		}
	}
	for _, e := range []Embedder{brokenEmbedder{}, mute{}} {
		if _, _, err := New(nil, e, nil).Quote(t.Context(), "What?", "", 0, evidencePassages); !errors.Is(err, errBroken) {
			t.Errorf("%T gave %v", e, err)
		}
	}
}

var errBroken = errors.New("broken")

type brokenEmbedder struct{ bagEmbedder }

func (brokenEmbedder) Embed(context.Context, []string) ([][]float32, error) { return nil, errBroken }

// mute embeds passages and no question.
type mute struct{ bagEmbedder }

func (mute) EmbedQuery(context.Context, string) ([]float32, error) { return nil, errBroken }
