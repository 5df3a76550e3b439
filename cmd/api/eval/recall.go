package eval

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"

	"lessrag/cmd/api/progress"
	"lessrag/decode"
	"lessrag/decode/recall"
)

// Recalled is one cache's answer to one prompt: the true answer was fed, and its
// tokens were scored.
type Recalled struct {
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

// recallAll lets every cache answer every prompt. The caches of one prompt go one
// after the other, so that they share the beginning that the engine keeps.
func (o CacheOptions) recallAll(ctx context.Context, engine *decode.Engine, prompts []recall.Encoded, entries []Entry, log *Log) ([]Recalled, error) {
	var outcomes []Recalled
	shown := progress.New(os.Stderr, "answering", len(prompts)*len(entries))
	defer shown.Finish()
	for _, p := range prompts {
		for _, e := range entries {
			shown.Show(len(outcomes))
			key := Key{Question: p.ID, Source: fmt.Sprintf("recall, seed %d, prompt %x", o.Seed, hashTokens(p.Tokens)), Cache: e.Text,
				Collection: engine.Info().Hash, Prompt: fmt.Sprintf("staging %d, heads %s", o.Staging, o.Heads)}
			outcome, err := Remembered(log, key, func() (Recalled, error) { return answerPrompt(ctx, engine, p, e) })
			if err != nil {
				return nil, fmt.Errorf("prompt %s, cache %s: %w", p.ID, e.Text, err)
			}
			outcomes = append(outcomes, outcome)
		}
	}
	return outcomes, nil
}

// answerPrompt scores the true answer of a prompt under one cache.
func answerPrompt(ctx context.Context, engine *decode.Engine, p recall.Encoded, e Entry) (Recalled, error) {
	budget, err := e.Budget(engine, len(p.Tokens))
	if err != nil {
		return Recalled{}, err
	}
	r, err := decode.Wait(engine.Submit(ctx, decode.Request{Prompt: p.Tokens, Question: p.QuestionRows, Cache: e.Spec, Budget: budget,
		Force: slices.Concat(p.PrefixTokens, p.GoldTokens)}))
	if err == nil && len(r.Scores) != len(p.PrefixTokens)+len(p.GoldTokens) {
		err = errors.New("the decoder ended early")
	}
	if err != nil {
		return Recalled{}, err
	}
	return newRecalled(p, e, r), nil
}

func newRecalled(p recall.Encoded, e Entry, r *decode.Result) Recalled {
	o := Recalled{Prompt: p.ID, Kind: string(p.Kind), Length: p.Length, Depth: p.Depth, Cache: e.Text, Tokens: len(p.Tokens), Exact: true,
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
