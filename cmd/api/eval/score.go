package eval

import (
	"math"
	"slices"

	"lessrag/decode/recall"
)

// RecallScore is one cache over the prompts of one kind and length.
type RecallScore struct {
	Cache     string  `json:"cache"`
	Kind      string  `json:"kind"`
	Length    int     `json:"length"` // 0: all
	Prompts   int     `json:"prompts"`
	LogP      float64 `json:"logp"`       // mean over the prompts
	Loss      float64 `json:"loss"`       // nats per token below the full cache; 0 without one
	Exact     float64 `json:"exact"`      // share
	Differ    int     `json:"differ"`     // prompts on which it and --against are more than 0.01 nats apart
	Better    int     `json:"better"`     // and of these, those on which it is the better one
	OneExact  int     `json:"one_exact"`  // prompts that only one of it and --against answers exactly
	Alone     int     `json:"alone"`      // and of these, those that it answers
	PlanBytes float64 `json:"plan_bytes"` // means
	HeldBytes float64 `json:"held_bytes"`
}

// apart is how many nats make a difference between two caches.
const apart = 0.01

// ScoreRecall sums outcomes up: for every cache and kind, all lengths together and
// each alone.
func ScoreRecall(outcomes []Recalled, entries []Entry, against string) []RecallScore {
	full, other := map[string]Recalled{}, map[string]Recalled{}
	var lengths []int
	for _, o := range outcomes {
		if o.Cache == "full" {
			full[o.Prompt] = o
		}
		if o.Cache == against {
			other[o.Prompt] = o
		}
		lengths = append(lengths, o.Length)
	}
	slices.Sort(lengths)
	lengths = append([]int{0}, slices.Compact(lengths)...)
	var scores []RecallScore
	for _, kind := range []recall.Kind{recall.Synthetic, recall.Natural} {
		for _, length := range lengths {
			for _, e := range entries {
				s := RecallScore{Cache: e.Text, Kind: string(kind), Length: length}
				for _, o := range outcomes {
					if o.Cache == e.Text && o.Kind == s.Kind && (length == 0 || o.Length == length) {
						s.add(o, full, other)
					}
				}
				if s.Prompts > 0 {
					scores = append(scores, s.mean())
				}
			}
		}
	}
	return scores
}

func (s *RecallScore) add(o Recalled, full, other map[string]Recalled) {
	s.Prompts++
	s.LogP += o.LogP
	if f, ok := full[o.Prompt]; ok {
		s.Loss += f.LogP - o.LogP
	}
	if o.Exact {
		s.Exact++
	}
	if rival, ok := other[o.Prompt]; ok {
		s.compare(o, rival)
	}
	s.PlanBytes += float64(o.PlanBytes)
	s.HeldBytes += float64(o.HeldBytes)
}

// compare counts how one prompt came out against the same one under another cache.
func (s *RecallScore) compare(o, rival Recalled) {
	if math.Abs(o.LogP-rival.LogP) > apart {
		s.Differ++
		if o.LogP > rival.LogP {
			s.Better++
		}
	}
	if o.Exact != rival.Exact {
		s.OneExact++
		if o.Exact {
			s.Alone++
		}
	}
}

func (s RecallScore) mean() RecallScore {
	n := float64(s.Prompts)
	s.LogP, s.Loss, s.Exact, s.PlanBytes, s.HeldBytes = s.LogP/n, s.Loss/n, s.Exact/n, s.PlanBytes/n, s.HeldBytes/n
	return s
}
