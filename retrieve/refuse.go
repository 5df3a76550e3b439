package retrieve

import "math"

// MinSimilarity is the cosine below which a passage without all the words of
// the question is not taken as an answer to it. With all-MiniLM-L6-v2, the
// best passage's cosine was 0.18 to 0.76 (31 of 32 above 0.3) for questions
// that a collection answers, and 0.04 to 0.31 (31 of 32 below 0.3) for others:
// TestFindsAndRefuses measures it. Other models and other collections want
// other values.
const MinSimilarity = 0.3

// RefusalText is the answer when nothing relevant was found.
const RefusalText = "The documents in this collection do not seem to answer that question: no passage is close enough to it."

// Fit is how near passages come to the question that found them: the highest
// cosine, infinity where one holds all of its words, minus infinity without any.
func Fit(passages []Passage) float64 {
	fit := math.Inf(-1)
	for _, p := range passages {
		if p.AllTerms {
			return math.Inf(1)
		}
		fit = max(fit, p.Similarity)
	}
	return fit
}

// Relevant tells whether passages fit well enough to answer from. If not, the
// honest answer is RefusalText.
func Relevant(passages []Passage, least float64) bool { return Fit(passages) >= least }
