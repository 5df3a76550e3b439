package retrieve

// MinSimilarity is the cosine below which a passage without all the words of
// the question is not taken as an answer to it. With all-MiniLM-L6-v2, the
// best passage's cosine was 0.18 to 0.76 (31 of 32 above 0.3) for questions
// that a collection answers, and 0.04 to 0.31 (31 of 32 below 0.3) for others:
// TestFindsAndRefuses measures it.
const MinSimilarity = 0.3

// RefusalText is the answer when nothing relevant was found.
const RefusalText = "The documents in this collection do not seem to answer that question: no passage is close enough to it."

// Relevant tells whether the passages may answer the question that found
// them: one is similar enough, or holds all of its words. If not, the honest
// answer is RefusalText.
func Relevant(passages []Passage) bool {
	for _, p := range passages {
		if p.Similarity >= MinSimilarity || p.AllTerms {
			return true
		}
	}
	return false
}
