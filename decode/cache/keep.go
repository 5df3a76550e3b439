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
	threshold := nth(sorted, len(sorted)-n)

	equal := n // how many tokens of exactly the threshold are kept
	for _, score := range scores {
		if cmp.Compare(score, threshold) > 0 {
			equal--
		}
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

// nth is the value that x would have at index n if it were sorted; it puts x into
// another order (Hoare's selection).
func nth(x []float32, n int) float32 {
	for len(x) > 1 {
		low, middle, high := x[0], x[len(x)/2], x[len(x)-1]
		pivot := max(min(low, middle), min(max(low, middle), high))
		if pivot != pivot { // not a number: those are the lowest, and few
			slices.Sort(x)
			return x[n]
		}
		i, j := 0, len(x)-1
		for i <= j {
			for cmp.Less(x[i], pivot) {
				i++
			}
			for cmp.Less(pivot, x[j]) {
				j--
			}
			if i <= j {
				x[i], x[j] = x[j], x[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case n <= j:
			x = x[:j+1]
		case n >= i:
			x, n = x[i:], n-i
		default:
			return pivot
		}
	}
	return x[0]
}
