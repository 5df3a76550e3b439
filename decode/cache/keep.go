package cache

import (
	"math"
	"slices"
)

// Keep appends to dst the indices of the n highest scores, in rising order. Of
// equal scores the later token is kept; a score that is not a number is the
// lowest. ranks is scratch of at least len(scores) values.
func Keep(dst []int32, scores []float32, n int, ranks []int32) []int32 {
	if n >= len(scores) {
		for i := range scores {
			dst = append(dst, int32(i))
		}
		return dst
	}
	if n <= 0 {
		return dst
	}
	ranks = ranks[:len(scores)]
	for i, score := range scores {
		ranks[i] = rank(score)
	}
	threshold := nth(ranks, len(ranks)-n)

	skip := -n // how many earlier tokens of exactly the threshold are not kept
	for _, r := range ranks {
		skip += 1 - below(r, threshold)
	}
	kept := slices.Grow(dst, n+1)[:len(dst)+n+1] // the last one is written over
	at := len(dst)
	for i, score := range scores {
		r := rank(score)
		kept[at] = int32(i)
		if r == threshold && skip > 0 {
			skip--
			continue
		}
		at += 1 - below(r, threshold)
	}
	return kept[:at]
}

// rank is a number that is as much higher or lower than others as a score is.
func rank(score float32) int32 {
	if score != score {
		return math.MinInt32
	}
	bits := int32(math.Float32bits(score + 0)) // −0 is 0
	return bits ^ bits>>31&math.MaxInt32
}

// below is 1 if a is less than b, and otherwise 0: without a branch, which scores would
// make hard to predict.
func below(a, b int32) int { return int(uint64(int64(a)-int64(b)) >> 63) }

// nth is the value that x would have at index n if it were sorted; it puts x into
// another order.
func nth(x []int32, n int) int32 {
	for {
		low, middle, high := x[0], x[len(x)/2], x[len(x)-1]
		pivot := max(min(low, middle), min(max(low, middle), high))
		less := part(x, pivot)
		if n < less {
			x = x[:less]
			continue
		}
		x, n = x[less:], n-less
		equal := part(x, pivot+1) // no score has the rank math.MaxInt32
		if n < equal {
			return pivot
		}
		x, n = x[equal:], n-equal
	}
}

// part puts what is less than a pivot first, and tells how much that is.
func part(x []int32, pivot int32) int {
	less := 0
	for i, v := range x {
		x[i], x[less] = x[less], v
		less += below(v, pivot)
	}
	return less
}
