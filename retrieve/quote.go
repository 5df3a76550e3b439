package retrieve

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"slices"
)

// quoteCandidates are the sentences that are compared by meaning, those that
// share most words with the question first.
const quoteCandidates = 12

// Quote finds the sentence of the passages that fits a question and its answer
// best, by the words that they share and by meaning, half each: what can still
// be cited when no passage backs the answer. Its place in the answer is the end,
// at. found is false where the passages have no sentence. Errors are the
// embedder's.
func (s *Searcher) Quote(ctx context.Context, question, answer string, at int, passages []Passage) (c Citation, found bool, err error) {
	e := newEvidence(passages)
	candidates := e.closest(question+"\n"+answer, quoteCandidates)
	if len(candidates) == 0 {
		return Citation{}, false, nil
	}
	asked, err := s.embedder.EmbedQuery(ctx, question)
	if err != nil {
		return Citation{}, false, fmt.Errorf("embed the question to quote for: %w", err)
	}
	var texts []string
	for _, q := range candidates {
		texts = append(texts, e.text(q.sentence))
	}
	vectors, err := s.embedder.Embed(ctx, texts)
	if err != nil {
		return Citation{}, false, fmt.Errorf("embed sentences to quote: %w", err)
	}
	best, highest := 0, -2.0
	for i, q := range candidates {
		if fit := q.share/2 + dot(asked, vectors[i])/2; fit > highest {
			best, highest = i, fit
		}
	}
	sentence := e.sentences[candidates[best].sentence]
	p := passages[sentence.passage]
	return Citation{Marker: sentence.passage + 1, PassageID: p.ID, Start: at, End: at, Quote: e.text(candidates[best].sentence),
		QuoteStart: p.Start + sentence.start, QuoteEnd: p.Start + sentence.end, Origin: Extracted}, true, nil
}

// candidate is a sentence and the share of a text's content words that it has.
type candidate struct {
	sentence int
	share    float64
}

// closest returns the n sentences with most of a text's content words, by
// weight; of equals, those of the better passage. Headings are no sentences.
func (e *evidence) closest(text string, n int) []candidate {
	weights, masks, _ := e.match(terms(text))
	total := 0.0
	for _, w := range weights {
		total += w
	}
	var all []candidate
	for i, m := range masks {
		if e.text(i)[0] == '#' {
			continue
		}
		c := candidate{sentence: i}
		if bits.OnesCount64(m) > 0 {
			c.share = weigh(weights, m) / total
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(b.share, a.share) })
	return all[:min(n, len(all))]
}

// text is a sentence's own.
func (e *evidence) text(sentence int) string {
	s := e.sentences[sentence]
	return e.passages[s.passage].Text[s.start:s.end]
}

func dot[T float32 | float64](a, b []T) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}
