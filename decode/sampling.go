package decode

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"lessrag/lesskernels/cpu"
)

// ErrNotFinite tells that the model's logits hold something that is not a number.
var ErrNotFinite = errors.New("decode: the model gave logits that are not finite")

// Sampling is how the next token is chosen. The zero value is greedy.
type Sampling struct {
	Temperature   float32 // 0: the most likely token
	TopP          float32 // of the most likely tokens, those that together reach it; 0 or 1: all
	MinP          float32 // tokens at least this share as likely as the first; 0: all
	TopK          int     // of the most likely tokens, this many; 0: all
	RepeatPenalty float32 // of the last RepeatWindow tokens' logits (arXiv 1909.05858); 0 or 1: none
	Seed          uint64  // the same seed gives the same choices
}

// RepeatWindow is how many of the last tokens RepeatPenalty looks at.
const RepeatWindow = 64

// check names the first field that makes no sense.
func (s Sampling) check() error {
	within := func(field string, x, most float32) error {
		if !(x >= 0 && x <= most) {
			return &InvalidError{Field: field, Reason: fmt.Sprintf("must be a number from 0 to %g", most)}
		}
		return nil
	}
	if s.TopK < 0 {
		return &InvalidError{Field: "top_k", Reason: "must not be negative"}
	}
	return errors.Join(
		within("temperature", s.Temperature, 100),
		within("top_p", s.TopP, 1),
		within("min_p", s.MinP, 1),
		within("repeat_penalty", s.RepeatPenalty, 100),
	)
}

// Sampler chooses the tokens of one sequence. It is deterministic: the same
// Sampling, history and logits give the same token.
type Sampler struct {
	sampling   Sampling
	random     *rand.Rand
	recent     []int32 // the last RepeatWindow tokens
	candidates []candidate
}

// candidate is a token with its weight: its probability up to a common factor.
type candidate struct {
	token  int32
	weight float64
}

// NewSampler starts a sequence after its prompt.
func NewSampler(s Sampling, prompt []int32) (*Sampler, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	recent := prompt[max(0, len(prompt)-RepeatWindow):]
	return &Sampler{sampling: s, random: rand.New(rand.NewPCG(s.Seed, 0x6c657373)),
		recent: append(make([]int32, 0, RepeatWindow), recent...)}, nil
}

// Next chooses the token that follows. It changes logits.
func (s *Sampler) Next(logits []float32) (int32, error) {
	s.penalise(logits)
	best, err := argmax(logits)
	if err != nil {
		return 0, err
	}
	token := best
	if s.sampling.Temperature > 0 {
		token = s.draw(logits, logits[best])
	}
	s.remember(token)
	return token, nil
}

func (s *Sampler) remember(token int32) {
	if len(s.recent) == RepeatWindow {
		copy(s.recent, s.recent[1:])
		s.recent = s.recent[:RepeatWindow-1]
	}
	s.recent = append(s.recent, token)
}

// penalises tells whether recent tokens become less likely, or more.
func (s *Sampler) penalises() bool {
	return s.sampling.RepeatPenalty != 0 && s.sampling.RepeatPenalty != 1
}

// penalise makes recent tokens less likely, each once.
func (s *Sampler) penalise(logits []float32) {
	if !s.penalises() {
		return
	}
	for i, token := range s.recent {
		if !slices.Contains(s.recent[:i], token) {
			logits[token] = s.penalised(logits[token])
		}
	}
}

func (s *Sampler) penalised(logit float32) float32 {
	if logit > 0 {
		return logit / s.sampling.RepeatPenalty
	}
	return logit * s.sampling.RepeatPenalty
}

// argmax is the first of the highest logits. −Inf means impossible, and is fine
// as long as something is possible.
func argmax(logits []float32) (int32, error) {
	best, ok := cpu.ArgMax(logits)
	if !ok || math.IsInf(float64(logits[best]), 0) {
		return 0, ErrNotFinite
	}
	return int32(best), nil
}

// negligible is the weight below which a token can no longer change a float64
// sum over any vocabulary.
const negligible = 1e-22

// draw samples from the softmax at the temperature, cut by top-k, top-p and
// min-p in this order; most is the highest logit.
func (s *Sampler) draw(logits []float32, most float32) int32 {
	s.candidates = s.candidates[:0]
	lowest := s.lowest(most)
	var total float64
	for i, x := range logits {
		if x < lowest {
			continue
		}
		weight := s.weight(x, most)
		total += weight
		s.candidates = append(s.candidates, candidate{int32(i), weight})
	}
	return s.pick(total)
}

// lowest is the logit below which a token is negligible.
func (s *Sampler) lowest(most float32) float32 {
	return most + float32(math.Log(negligible))*s.sampling.Temperature
}

func (s *Sampler) weight(logit, most float32) float64 {
	return math.Exp(float64(logit-most) / float64(s.sampling.Temperature))
}

// pick draws one of the candidates, whose weights are total together.
func (s *Sampler) pick(total float64) int32 {
	if s.cuts() {
		s.cut(total)
	}
	floor := max(negligible, float64(s.sampling.MinP))
	kept := s.candidates[:0]
	total = 0
	for _, c := range s.candidates {
		if c.weight >= floor {
			kept = append(kept, c)
			total += c.weight
		}
	}
	at := s.random.Float64() * total
	for _, c := range kept {
		if at -= c.weight; at < 0 {
			return c.token
		}
	}
	return kept[len(kept)-1].token // rounding left a crumb
}

// cuts tells whether the order of the candidates matters.
func (s *Sampler) cuts() bool {
	k, p := s.sampling.TopK, s.sampling.TopP
	return k > 0 && k < len(s.candidates) || p > 0 && p < 1
}

// cut leaves the most likely candidates: TopK at most, and of these as few as
// reach TopP of their total.
func (s *Sampler) cut(total float64) {
	all := s.candidates
	most, popped := len(all), 0
	heapify(all)
	if k := s.sampling.TopK; k > 0 && k < most {
		most, total = k, 0
		for ; popped < k; popped++ {
			total += popLast(all[:len(all)-popped]).weight
		}
	}
	enough := math.Inf(1)
	if p := float64(s.sampling.TopP); p > 0 && p < 1 {
		enough = p * total
	}
	taken, reached := 0, 0.0
	for ; taken < most && reached < enough; taken++ {
		if taken == popped {
			popLast(all[:len(all)-popped])
			popped++
		}
		reached += all[len(all)-1-taken].weight
	}
	s.candidates = all[len(all)-taken:]
}

// more orders candidates: the likelier first, of equal ones the lower token.
func (c candidate) more(than candidate) bool {
	return c.weight > than.weight || c.weight == than.weight && c.token < than.token
}

// heapify makes a binary heap with the likeliest candidate first.
func heapify(heap []candidate) {
	for i := len(heap)/2 - 1; i >= 0; i-- {
		sift(heap, i)
	}
}

// popLast moves the likeliest candidate of a heap to its end; the rest stay one.
func popLast(heap []candidate) candidate {
	last := len(heap) - 1
	heap[0], heap[last] = heap[last], heap[0]
	sift(heap[:last], 0)
	return heap[last]
}

func sift(heap []candidate, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if right := child + 1; right < len(heap) && heap[right].more(heap[child]) {
			child = right
		}
		if !heap[child].more(heap[i]) {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}
