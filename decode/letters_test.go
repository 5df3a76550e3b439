package decode

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"lessrag/decode/cache"
	"lessrag/decode/model"
	"lessrag/decode/passages"
)

// letters is a backend without a model: after tokens a, b, c … it says the next
// letter of the alphabet, and what it is told to do wrong it does.
type letters struct {
	context  int
	pass     chan struct{} // nil, or one value for each Forward that may go on
	entered  atomic.Int64  // Forwards begun
	live     atomic.Int64  // sequences
	poison   int32         // a sequence that is fed this token gives NaN; 0: none
	refusal  error         // of NewSequence
	refusals atomic.Int64  // the one call that it grants; 0: none
	breakage error         // of Forward
}

const endLetter = 26

type lettersSequence struct {
	l        *letters
	plan     cache.Plan
	position int
	poisoned bool
}

func (s *lettersSequence) Position() int    { return s.position }
func (s *lettersSequence) Plan() cache.Plan { return s.plan }
func (s *lettersSequence) Held() cache.Held {
	return cache.Held{Kept: s.position, Bytes: min(s.plan.Bytes, int64(s.position)*s.plan.Shape.TokenBytes())}
}
func (s *lettersSequence) Free() error { s.l.live.Add(-1); return nil }

func (l *letters) Copy(s model.Sequence, n int) (model.Sequence, error) {
	l.live.Add(1)
	p := s.Plan()
	p.Bytes = int64(n) * p.Shape.TokenBytes()
	return &lettersSequence{l: l, plan: p, position: n}, nil
}

func (l *letters) Adopt(s, from model.Sequence, n int) { s.(*lettersSequence).position = n }

func (l *letters) Staged(model.Sequence) cache.Staged       { panic("letters stage nothing") }
func (l *letters) Retain(model.Sequence, cache.Choice)      { panic("letters stage nothing") }
func (l *letters) Take(_, _ model.Sequence, _ cache.Choice) { panic("letters stage nothing") }
func (l *letters) Reset(model.Sequence)                     { panic("letters stage nothing") }

func (l *letters) Blend(*model.Blend, int) (bool, error)              { panic("letters blend nothing") }
func (l *letters) Move(_, _ model.Sequence)                           { panic("letters blend nothing") }
func (l *letters) Passage(model.Sequence, int, int) *passages.Passage { panic("letters blend nothing") }

func (l *letters) Distil(model.Sequence, int, cache.Plan) (*passages.Passage, error) {
	panic("letters remember nothing")
}
func (l *letters) Place(model.Sequence, *passages.Passage) error { panic("letters remember nothing") }

func (l *letters) Config() model.Config { return model.Config{Vocab: 27, Context: l.context} }
func (l *letters) Close()               {}
func (l *letters) Shape(string) cache.Shape {
	return cache.Shape{Layers: 1, KVHeads: 1, HeadDim: 24, Context: l.context} // 100 bytes a token
}

func (l *letters) NewSequence(p cache.Plan) (model.Sequence, error) {
	if l.refusal != nil && l.refusals.Add(-1) != 0 { // the call that makes it 0 passes
		return nil, l.refusal
	}
	l.live.Add(1)
	return &lettersSequence{l: l, plan: p}, nil
}

func (l *letters) Forward(works []model.Work) ([]model.Result, error) {
	l.entered.Add(1)
	if l.pass != nil {
		<-l.pass
	}
	if l.breakage != nil {
		return nil, l.breakage
	}
	results := make([]model.Result, len(works))
	for i, w := range works {
		s := w.Sequence.(*lettersSequence)
		s.position += len(w.Tokens)
		last := w.Tokens[len(w.Tokens)-1]
		s.poisoned = s.poisoned || l.poison != 0 && last == l.poison
		results[i].Logits = make([]float32, 27)
		results[i].Logits[(last+1)%27] = 5
		if s.poisoned {
			results[i].Logits[3] = float32(math.NaN())
		}
		for _, target := range w.Targets {
			results[i].Scores = append(results[i].Scores, model.Score{NLL: float64(target)})
		}
	}
	return results, nil
}

func (l *letters) engine(t *testing.T, o Options) *Engine {
	t.Helper()
	if l.context == 0 {
		l.context = 1000
	}
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(l, vocabulary{
		piece: func(token int32) []byte { return []byte{byte('a' + token)} },
		isEnd: func(token int32) bool { return token == endLetter },
	}, o, nil)
	t.Cleanup(func() {
		e.Close()
		if n := l.live.Load(); n != 0 {
			t.Errorf("%d sequences were not freed", n)
		}
	})
	return e
}

// submit sends a request that must be taken.
func submit(t *testing.T, e *Engine, ctx context.Context, r Request) <-chan Chunk {
	t.Helper()
	chunks, err := e.Submit(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return chunks
}

// read joins an answer's chunks and checks that they are a well-formed stream.
func read(chunks <-chan Chunk) (text string, r *Result, err error) {
	prefilled := 0
	for c := range chunks {
		if r != nil || err != nil {
			return text, r, fmt.Errorf("a chunk after the last one: %+v", c)
		}
		if c.Prefilled != 0 && c.Prefilled <= prefilled {
			return text, r, fmt.Errorf("progress from %d to %d", prefilled, c.Prefilled)
		}
		prefilled = max(prefilled, c.Prefilled)
		text += c.Text
		r, err = c.Result, c.Err
	}
	switch {
	case r == nil && err == nil:
		err = errors.New("the stream ended without a result")
	case r != nil && r.Text != text:
		err = fmt.Errorf("pieces join to %q and the result says %q", text, r.Text)
	}
	return text, r, err
}

// until waits for a condition that another goroutine brings about.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
