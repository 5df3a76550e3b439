package cache

import (
	"cmp"
	"slices"
)

// Keep appends to dst the indices of the n highest scores, in rising order. Of
// equal scores the later token is kept; a score that is not a number is the
// lowest. sorted is scratch of at least len(scores) values.
func Keep(dst []int32, scores []float32, n int, sorted []float32) []int32 {
	if n >= len(scores) {
		for i := range scores {
			dst = append(dst, int32(i))
		}
		return dst
	}
	if n <= 0 {
		return dst
	}
	sorted = sorted[:len(scores)]
	copy(sorted, scores)
	slices.Sort(sorted)
	threshold := sorted[len(sorted)-n]

	equal := n // how many tokens of exactly the threshold are kept
	for i := len(sorted) - 1; i >= 0 && cmp.Compare(sorted[i], threshold) > 0; i-- {
		equal--
	}
	skip := -equal // and how many earlier ones are not
	for _, score := range scores {
		if cmp.Compare(score, threshold) == 0 {
			skip++
		}
	}
	for i, score := range scores {
		switch order := cmp.Compare(score, threshold); {
		case order > 0:
			dst = append(dst, int32(i))
		case order == 0 && skip > 0:
			skip--
		case order == 0:
			dst = append(dst, int32(i))
		}
	}
	return dst
}
