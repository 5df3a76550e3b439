package cache

import (
	"cmp"
	"slices"
)

// votersShare: one KV head in so many votes. Fewer and heavier heads find answers in longer
// prompts: of the default reader's 90, 18 lose 0.46 nats a token of natural answers at 2,000 to
// 7,500 tokens, 6 lose none (9 prompts; on 63 others 6 lose 0.05).
const votersShare = 15

// Voters is how many of a model's KV heads vote, at most: those of the highest weights.
func Voters(heads int) int { return max(1, (heads+votersShare/2)/votersShare) }

// voters are the heaviest fifteenth of the KV heads, rising. Without weights, or with
// none above zero, all of them vote. weights is [layers·kvHeads] for that many
// heads, or nil.
func voters(weights []float32, heads int) []int {
	all := make([]int, heads)
	for i := range all {
		all[i] = i
	}
	if !weighted(weights) {
		return all
	}
	slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(weights[b], weights[a]) })
	heaviest := all[:Voters(heads)]
	heaviest = slices.DeleteFunc(heaviest, func(head int) bool { return !(weights[head] > 0) })
	slices.Sort(heaviest)
	return heaviest
}

// tally adds one voter's voice to votes [tokens]: over its query heads, the sum of
// the most that any row of the question attends to a token. attention is [slots,
// group] maxima of probabilities, for slots that hold the positions given.
func tally(votes, attention []float32, positions []int32) {
	if len(positions) == 0 {
		return
	}
	group := len(attention) / len(positions)
	for i, position := range positions {
		for _, p := range attention[i*group : (i+1)*group] {
			votes[position] += p
		}
	}
}

// voteBudgets shares keep tokens for each head among the heads, [layers·kvHeads]:
// half of keep, and no fewer than the protected tokens, to every head; the rest by
// weight. No head gets more than tokens; what it cannot use goes to the others.
// The sum is heads·min(keep, tokens), exactly. Without weights all get the same.
func voteBudgets(keep, tokens, heads int, weights []float32) []int {
	keep = max(0, min(keep, tokens))
	floor := min(keep, max(voteLeast, keep/2))
	budgets := make([]int, heads)
	for i := range budgets {
		budgets[i] = floor
	}
	rest := heads * (keep - floor)
	if rest == 0 {
		return budgets
	}
	weight := make([]float64, heads)
	for i := range weight {
		weight[i] = 1
		if weighted(weights) {
			weight[i] = max(0, float64(weights[i]))
		}
	}
	byWeight := make([]int, heads)
	for i := range byWeight {
		byWeight[i] = i
	}
	slices.SortStableFunc(byWeight, func(a, b int) int { return cmp.Compare(weight[b], weight[a]) })

	// The heaviest first: once one of them fits under the cap, all lighter ones do.
	sum := 0.0
	for _, w := range weight {
		sum += w
	}
	open := byWeight
	for len(open) > 0 && sum > 0 && float64(rest)*weight[open[0]]/sum >= float64(tokens-floor) {
		budgets[open[0]] = tokens
		rest -= tokens - floor
		sum -= weight[open[0]]
		open = open[1:]
	}
	given := 0
	for _, head := range open {
		if sum > 0 {
			extra := min(int(float64(rest)*weight[head]/sum), rest-given, tokens-budgets[head])
			budgets[head] += extra
			given += extra
		}
	}
	// Rounding's remainder, and what heads of no weight inherit from capped ones.
	for left := rest - given; left > 0; {
		before := left
		for _, head := range open {
			if left > 0 && budgets[head] < tokens {
				budgets[head]++
				left--
			}
		}
		if left == before {
			break
		}
	}
	return budgets
}

// weighted tells whether there are head weights to go by.
func weighted(weights []float32) bool {
	return slices.ContainsFunc(weights, func(w float32) bool { return w > 0 })
}
