package teach

import (
	"fmt"
	"math/rand/v2"

	"lessrag/lesskernels/train"
)

// TextProbes read windows under policies: predictions count from where half of
// a window, or four times the budget, has gone by.
func TextProbes(windows [][]int32, policies []train.Policy) []Probe {
	var probes []Probe
	for _, w := range windows {
		for _, p := range policies {
			probes = append(probes, Probe{Tokens: w, From: min(len(w)/2, 4*p.Budget), Policy: &p})
		}
	}
	return probes
}

// keptShare of a prompt stays when a question has chosen.
const keptShare = 10 // percent

// needleWords name what a needle is about.
var needleWords = []string{"harvest", "lighthouse", "foundry", "orchard", "glacier", "caravan", "monsoon", "pendulum", "quarry", "sawmill"}

// NeedleProbes hide an access code in windows and ask for it, each with another
// code and place. What a question-aware policy would keep stays: the first
// tokens, the sentence that holds the code, the last tokens with the question,
// and others up to a tenth of the prompt. The state takes the rest, and the
// model says the code.
func NeedleProbes(windows [][]int32, encode func(string) []int32) []Probe {
	rng := rand.New(rand.NewPCG(11, 0x2eed1e))
	var probes []Probe
	for i, w := range windows {
		word, code := needleWords[i%len(needleWords)], 10000+rng.IntN(90000)
		sentence := encode(fmt.Sprintf("\nThe access code of the %s team is %d.\n", word, code))
		question := encode(fmt.Sprintf("\n\nQuestion: What is the access code of the %s team?\nAnswer:", word))
		prefix, gold := encode(fmt.Sprintf(" The access code of the %s team is", word)), encode(fmt.Sprintf(" %d", code))
		at := len(w)/8 + rng.IntN(len(w)*3/4)
		var tokens []int32
		tokens = append(append(append(append(tokens, w[:at]...), sentence...), w[at:]...), question...)
		keep := make([]bool, len(tokens))
		kept := 0
		take := func(from, to int) {
			for j := max(0, from); j < min(to, len(keep)); j++ {
				if !keep[j] {
					keep[j] = true
					kept++
				}
			}
		}
		take(0, 4)
		take(at, at+len(sentence))
		take(len(tokens)-len(question), len(tokens))
		for kept < len(tokens)*keptShare/100 {
			from := rng.IntN(len(tokens))
			take(from, from+8) // as sentences are kept
		}
		from := len(tokens) + len(prefix) - 1
		tokens = append(append(tokens, prefix...), gold...)
		probes = append(probes, Probe{Tokens: tokens, From: from, Keep: keep})
	}
	return probes
}
