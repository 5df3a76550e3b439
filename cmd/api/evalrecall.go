package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"slices"

	"lessrag/decode"
	"lessrag/decode/recall"
)

// recalled is one cache's answer to one prompt: the true answer was fed, and its
// tokens were scored.
type recalled struct {
	Prompt    string  `json:"prompt"`
	Kind      string  `json:"kind"`
	Length    int     `json:"length"` // aimed at
	Depth     int     `json:"depth"`
	Cache     string  `json:"cache"`
	Tokens    int     `json:"tokens"`     // of the prompt
	LogP      float64 `json:"logp"`       // mean log-likelihood of the answer's tokens, nats
	Exact     bool    `json:"exact"`      // every one of them was the likeliest
	PlanBytes int64   `json:"plan_bytes"` // of the sequence
	HeldBytes int64   `json:"held_bytes"`
	Kept      int     `json:"kept"` // tokens at the end, mean over the KV heads
}

// recall lets every cache answer every prompt. The caches of one prompt go one
// after the other, so that they share the beginning that the engine keeps.
func (c *evalCacheCmd) recall(ctx context.Context, engine *decode.Engine, prompts []recall.Encoded, entries []entry, log *evalLog) ([]recalled, error) {
	var outcomes []recalled
	progress := newProgress(os.Stderr, "answering", len(prompts)*len(entries))
	defer progress.finish()
	for _, p := range prompts {
		for _, e := range entries {
			progress.show(len(outcomes))
			key := evalKey{Question: p.ID, Source: fmt.Sprintf("recall, seed %d, prompt %x", c.Seed, hashTokens(p.Tokens)), Cache: e.text,
				Collection: engine.Info().Hash, Prompt: fmt.Sprintf("staging %d, heads %s", c.Staging, c.Heads)}
			o, err := remembered(log, key, func() (recalled, error) { return answerPrompt(ctx, engine, p, e) })
			if err != nil {
				return nil, fmt.Errorf("prompt %s, cache %s: %w", p.ID, e.text, err)
			}
			outcomes = append(outcomes, o)
		}
	}
	return outcomes, nil
}

// answerPrompt scores the true answer of a prompt under one cache.
func answerPrompt(ctx context.Context, engine *decode.Engine, p recall.Encoded, e entry) (recalled, error) {
	budget, err := e.budget(engine, len(p.Tokens))
	if err != nil {
		return recalled{}, err
	}
	chunks, err := engine.Submit(ctx, decode.Request{Prompt: p.Tokens, Question: p.QuestionRows, Cache: e.spec, Budget: budget,
		Force: slices.Concat(p.PrefixTokens, p.GoldTokens)})
	if err != nil {
		return recalled{}, err
	}
	for chunk := range chunks {
		if chunk.Err != nil {
			return recalled{}, chunk.Err
		}
		if r := chunk.Result; r != nil && len(r.Scores) == len(p.PrefixTokens)+len(p.GoldTokens) {
			return newRecalled(p, e, r), nil
		}
	}
	return recalled{}, errors.Join(ctx.Err(), errors.New("the decoder ended early"))
}

func newRecalled(p recall.Encoded, e entry, r *decode.Result) recalled {
	o := recalled{Prompt: p.ID, Kind: string(p.Kind), Length: p.Length, Depth: p.Depth, Cache: e.text, Tokens: len(p.Tokens), Exact: true,
		PlanBytes: r.Memory.BudgetBytes, HeldBytes: r.Memory.HeldBytes, Kept: r.Memory.KeptTokens}
	for i, score := range r.Scores[len(p.PrefixTokens):] {
		o.LogP -= score.NLL / float64(len(p.GoldTokens))
		o.Exact = o.Exact && score.Best == p.GoldTokens[i]
	}
	return o
}

func hashTokens(tokens []int32) uint64 {
	h := fnv.New64a()
	for _, token := range tokens {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], uint32(token))
		h.Write(b[:])
	}
	return h.Sum64()
}

// recallScore is one cache over the prompts of one kind and length.
type recallScore struct {
	Cache     string  `json:"cache"`
	Kind      string  `json:"kind"`
	Length    int     `json:"length"` // 0: all
	Prompts   int     `json:"prompts"`
	LogP      float64 `json:"logp"`       // mean over the prompts
	Loss      float64 `json:"loss"`       // nats per token below the full cache; 0 without one
	Exact     float64 `json:"exact"`      // share
	Differ    int     `json:"differ"`     // prompts on which it and --against are more than 0.01 nats apart
	Better    int     `json:"better"`     // and of these, those on which it is the better one
	PlanBytes float64 `json:"plan_bytes"` // means
	HeldBytes float64 `json:"held_bytes"`
}

// apart is how many nats make a difference between two caches.
const apart = 0.01

// scoreRecall sums outcomes up: for every cache and kind, all lengths together and
// each alone.
func scoreRecall(outcomes []recalled, entries []entry, against string) []recallScore {
	full, other := map[string]recalled{}, map[string]recalled{}
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
	var scores []recallScore
	for _, kind := range []recall.Kind{recall.Synthetic, recall.Natural} {
		for _, length := range lengths {
			for _, e := range entries {
				s := recallScore{Cache: e.text, Kind: string(kind), Length: length}
				for _, o := range outcomes {
					if o.Cache == e.text && o.Kind == s.Kind && (length == 0 || o.Length == length) {
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

func (s *recallScore) add(o recalled, full, other map[string]recalled) {
	s.Prompts++
	s.LogP += o.LogP
	if f, ok := full[o.Prompt]; ok {
		s.Loss += f.LogP - o.LogP
	}
	if o.Exact {
		s.Exact++
	}
	if rival, ok := other[o.Prompt]; ok && math.Abs(o.LogP-rival.LogP) > apart {
		s.Differ++
		if o.LogP > rival.LogP {
			s.Better++
		}
	}
	s.PlanBytes += float64(o.PlanBytes)
	s.HeldBytes += float64(o.HeldBytes)
}

func (s recallScore) mean() recallScore {
	n := float64(s.Prompts)
	s.LogP, s.Loss, s.Exact, s.PlanBytes, s.HeldBytes = s.LogP/n, s.Loss/n, s.Exact/n, s.PlanBytes/n, s.HeldBytes/n
	return s
}
