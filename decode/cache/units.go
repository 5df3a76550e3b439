package cache

import (
	"cmp"
	"slices"
)

// unit is what is kept or evicted as a whole: a token, or a packed group of them.
type unit struct {
	score float32
	first int32 // index of its first token
	n     int32
}

// appendUnits lists the units of scored tokens of which, after front, so many groups
// are packed. A group's score is the mean of its tokens', so that one that is protected
// protects it.
func appendUnits(units []unit, scores []float32, front, groups int) []unit {
	for i := 0; i < len(scores); {
		if i < front || i >= front+groups*GroupTokens {
			units = append(units, unit{scores[i], int32(i), 1})
			i++
			continue
		}
		sum := 0.0
		for _, score := range scores[i : i+GroupTokens] {
			sum += float64(score)
		}
		units = append(units, unit{float32(sum / GroupTokens), int32(i), GroupTokens})
		i += GroupTokens
	}
	return units
}

// keepUnits appends to dst the rising indices of the tokens of the units with the
// highest scores that fit into n tokens: one that does not fit gives way to the next.
// Of equal ones the later is kept, as Keep does. It sorts units.
func keepUnits(dst []int32, units []unit, n int) []int32 {
	slices.SortFunc(units, func(x, y unit) int {
		return cmp.Or(cmp.Compare(y.score, x.score), cmp.Compare(y.first, x.first))
	})
	for _, u := range units {
		if int(u.n) <= n {
			n -= int(u.n)
			for i := range u.n {
				dst = append(dst, u.first+i)
			}
		}
	}
	slices.Sort(dst)
	return dst
}
