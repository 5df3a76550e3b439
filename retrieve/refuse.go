package retrieve

// MinSimilarity is the cosine below which a passage without all the words of
// the question is not taken as an answer to it.
const MinSimilarity = 0.3

// RefusalText is the answer when nothing relevant was found.
const RefusalText = "The documents in this collection do not seem to answer that question: no passage is close enough to it."

// Relevant tells whether the passages can answer the question that found
// them: one is similar enough, or holds all of its words.
func Relevant(passages []Passage) bool {
	for _, p := range passages {
		if p.Similarity >= MinSimilarity || p.AllTerms {
			return true
		}
	}
	return false
}
