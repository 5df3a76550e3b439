package decode

import (
	"context"
	"errors"
	"fmt"

	"lessrag/decode/cache"
	"lessrag/decode/model"
)

// Lookup is a prompt whose answer stands in it, for Calibrate.
type Lookup struct {
	Prompt   []int32
	Question int     // last tokens of Prompt that ask
	Prefix   []int32 // of the answer, up to what is looked up
	Gold     []int32 // what is looked up
	Sentence [2]int  // tokens of Prompt that state it
	Answer   [2]int  // tokens of Prompt that are it
}

// Attention is how much every KV head looks at what a prompt asks for, the most of
// its query heads, on average over rows: [layers·kvHeads] each.
type Attention struct {
	Sentence []float64 // from the question's rows to the sentence that holds the answer
	Answer   []float64 // from the rows that predict the answer to the answer
}

// Look measures one prompt with a full cache. Running answers go on meanwhile.
func (e *Engine) Look(ctx context.Context, l Lookup) (Attention, error) {
	shape := e.backend.Shape(cache.Full)
	tokens := len(l.Prompt) + len(l.Prefix) + len(l.Gold)
	switch {
	case tokens > shape.Context:
		return Attention{}, &PromptTooLongError{Have: tokens, Max: shape.Context}
	case l.Question < 1 || l.Question > len(l.Prompt) || len(l.Prefix) == 0 || len(l.Gold) == 0:
		return Attention{}, errors.New("a lookup needs a question, the beginning of its answer and the answer")
	case !inside(l.Sentence, len(l.Prompt)) || !inside(l.Answer, len(l.Prompt)):
		return Attention{}, fmt.Errorf("sentence %v or answer %v is not in a prompt of %d tokens", l.Sentence, l.Answer, len(l.Prompt))
	}
	plan, err := cache.NewStaging(cache.Spec{Policy: cache.Vote}, tokens, shape)
	if err != nil {
		return Attention{}, err
	}
	o := &onlooker{engine: e, ctx: ctx, shape: shape}
	if err := e.do(ctx, func(b Backend) { o.sequence, err = b.NewSequence(plan) }); err != nil {
		return Attention{}, err
	}
	if err != nil {
		return Attention{}, err
	}
	defer o.sequence.Free()

	before := len(l.Prompt) - l.Question
	if err := o.feed(l.Prompt[:before]); err != nil {
		return Attention{}, err
	}
	var a Attention
	if a.Sentence, err = o.watch(l.Prompt[before:], l.Sentence); err != nil {
		return Attention{}, err
	}
	last := len(l.Prefix) - 1 // predicts the first token of the answer
	if err := o.feed(l.Prefix[:last]); err != nil {
		return Attention{}, err
	}
	rows := append([]int32{l.Prefix[last]}, l.Gold[:len(l.Gold)-1]...)
	a.Answer, err = o.watch(rows, l.Answer)
	return a, err
}

func inside(span [2]int, n int) bool { return 0 <= span[0] && span[0] < span[1] && span[1] <= n }

// onlooker feeds a staging sequence and sees what its rows attend to.
type onlooker struct {
	engine   *Engine
	ctx      context.Context
	shape    cache.Shape
	sequence model.Sequence
}

// feed takes tokens in, a block at a time.
func (o *onlooker) feed(tokens []int32) error {
	for len(tokens) > 0 {
		n := min(len(tokens), o.engine.options.Block)
		if err := o.forward(model.Work{Sequence: o.sequence, Tokens: tokens[:n], Prompt: true}, nil); err != nil {
			return err
		}
		tokens = tokens[n:]
	}
	return nil
}

// watch takes tokens in one by one and returns, for each KV head, the mean over
// them of what they attend to the span: the most of its query heads.
func (o *onlooker) watch(tokens []int32, span [2]int) ([]float64, error) {
	heads := make([][]float64, o.shape.Layers*o.shape.KVHeads) // [layers·kvHeads][group]
	for i := range heads {
		heads[i] = make([]float64, max(1, o.shape.Group))
	}
	for i := range tokens {
		err := o.forward(model.Work{Sequence: o.sequence, Tokens: tokens[i : i+1], Prompt: true, Question: 1}, func(b Backend) {
			staged := b.Staged(o.sequence)
			for head, attention := range staged.Attention {
				group := len(heads[head])
				for at := span[0] * group; at < span[1]*group; at++ {
					heads[head][at%group] += float64(attention[at])
				}
			}
			b.Retain(o.sequence, everything(staged)) // and forget what was seen
		})
		if err != nil {
			return nil, err
		}
	}
	most := make([]float64, len(heads))
	for i, group := range heads {
		for _, sum := range group {
			most[i] = max(most[i], sum/float64(len(tokens)))
		}
	}
	return most, nil
}

// forward feeds one block between two passes of the engine, then calls f there.
func (o *onlooker) forward(w model.Work, f func(Backend)) (err error) {
	if e := o.engine.do(o.ctx, func(b Backend) {
		if _, err = b.Forward([]model.Work{w}); err == nil && f != nil {
			f(b)
		}
	}); e != nil {
		return e
	}
	return err
}

// everything is the choice to keep all.
func everything(s cache.Staged) cache.Choice {
	c := cache.Choice{Kept: make([][]int32, len(s.Positions))}
	for i, positions := range s.Positions {
		c.Kept[i] = make([]int32, len(positions))
		for j := range positions {
			c.Kept[i][j] = int32(j)
		}
	}
	return c
}
