package retrieve

// TokenCounter counts a text's tokens as the reader will see it.
type TokenCounter interface{ Count(text string) int }

// Pack keeps, in order, the passages that fit whole into budget tokens,
// counted as Prompt writes them (marker and source line included), and tells
// how many did not fit.
func Pack(passages []Passage, t TokenCounter, budget int) (kept []Passage, dropped int) {
	for _, p := range passages {
		n := t.Count(block(len(kept)+1, p))
		if n > budget {
			dropped++
			continue
		}
		budget -= n
		kept = append(kept, p)
	}
	return kept, dropped
}
