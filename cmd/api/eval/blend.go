package eval

import (
	"context"
	"fmt"
	"os"

	"lessrag/cmd/api/answer"
	"lessrag/cmd/api/progress"
	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/decode/passages"
	"lessrag/retrieve"
)

// BlendOptions choose which prompts are read whole and from blended passages.
type BlendOptions struct {
	Questions int
	Passages  int        // in a prompt
	Tokens    int        // of a passage
	Shares    []float64  // of the passages' rows that are computed anew
	Memories  []float64  // also from memories of passages with these shares of their bytes
	Cache     cache.Spec // of Memories
	MaxTokens int        // of an answer
	Seed      uint64     // of the choice of questions and of the other passages
	Novel     int        // pairs of prompts of new passages to time
}

// BlendTried is one question, read whole and from blended passages.
type BlendTried struct {
	Share      float64 `json:"share"`
	Memory     float64 `json:"memory,omitempty"` // above 0: of passage memories
	Prompt     int     `json:"prompt_tokens"`
	Reused     int     `json:"reused_tokens"`
	Recomputed int     `json:"recomputed_tokens"`
	FullF1     float64 `json:"full_f1"`
	BlendF1    float64 `json:"blend_f1"`
	AgreeF1    float64 `json:"agree_f1"` // of the blended answer against the whole one's
	FullNLL    float64 `json:"full_nll"`
	BlendNLL   float64 `json:"blend_nll"`
	FullMS     float64 `json:"full_ttft_ms"`
	BlendMS    float64 `json:"blend_ttft_ms"`
	Bytes      int64   `json:"held_bytes"` // at the end of the scored answer
	FullBytes  int64   `json:"full_bytes"`
}

// Blend is what answers from passages that were read before lose and gain.
type Blend struct {
	Gates []passages.Gate `json:"gates"`
	Novel *Novel          `json:"novel,omitempty"`
	Tried []BlendTried    `json:"tried"`
}

// goldTokens is how much of the text that answers is scored.
const goldTokens = 48

// MeasureBlend asks the questions of the FAQs in dir in every way.
func MeasureBlend(ctx context.Context, engine *decode.Engine, dir string, o BlendOptions, log *Log) (e Blend, err error) {
	questions, err := o.questions(ctx, engine, dir)
	if err != nil {
		return e, err
	}
	if e.Tried, err = o.askAll(ctx, engine, questions, log); err != nil {
		return e, err
	}
	if o.Novel > 0 {
		if e.Novel, err = o.novel(ctx, engine, questions, log); err != nil {
			return e, err
		}
	}
	info := engine.Info()
	for _, share := range o.Shares {
		gate := newGate(share, e.Tried)
		gate.Model, gate.Name, gate.Passages, gate.Tokens, gate.Seed = info.Hash, info.Name, o.Passages, o.Tokens, o.Seed
		e.Gates = append(e.Gates, gate)
	}
	return e, nil
}

func (o BlendOptions) askAll(ctx context.Context, engine *decode.Engine, questions []BlendQuestion, log *Log) ([]BlendTried, error) {
	var all []BlendTried
	shown := progress.New(os.Stderr, "answering", len(questions))
	defer shown.Finish()
	for i, q := range questions {
		key := Key{Question: q.question, Source: fmt.Sprintf("%d passages of %d, others from a pool, seed %d", o.Passages, o.Tokens, o.Seed),
			Collection: engine.Info().Hash, Cache: fmt.Sprint(o.Shares), Mode: fmt.Sprint(o.Memories, o.Cache), Prompt: fmt.Sprintf("answer %d", o.MaxTokens)}
		tried, err := Remembered(log, key, func() ([]BlendTried, error) { return o.ask(ctx, engine, q) })
		if err != nil {
			return nil, fmt.Errorf("question %q: %w", q.question, err)
		}
		all = append(all, tried...)
		shown.Show(i + 1)
	}
	return all, nil
}

// ask reads a question's prompt from blended passages of every share, and whole. What
// is read whole is kept as a beginning of later prompts, so it comes last.
func (o BlendOptions) ask(ctx context.Context, engine *decode.Engine, q BlendQuestion) ([]BlendTried, error) {
	prompt, err := answer.Encode(engine, retrieve.Prompt(q.question, q.found))
	if err != nil {
		return nil, err
	}
	blend, err := answer.BlendOf(engine, prompt, retrieve.Bodies(q.found), "eval")
	if err != nil {
		return nil, err
	}
	if _, err := engine.Remember(ctx, prompt, *blend, cache.Spec{}); err != nil {
		return nil, err
	}
	gold := engine.Tokenizer().Encode(q.section)
	gold = gold[:min(goldTokens, len(gold))]
	var tried []BlendTried
	var said []string
	try := func(b decode.Blend, r decode.Request) error {
		r.Prompt, r.Blend = prompt, &b
		scored, text, err := o.read(ctx, engine, r, gold)
		if err != nil {
			return err
		}
		said = append(said, text)
		tried = append(tried, BlendTried{Share: b.Share, Memory: b.Memory, Prompt: len(prompt), Bytes: scored.Memory.HeldBytes, FullBytes: scored.Memory.FullCacheBytes, Reused: scored.ReusedTokens, Recomputed: scored.RecomputedTokens,
			BlendF1: retrieve.TokenF1(text, []string{q.section}), BlendNLL: meanNLL(scored), BlendMS: float64(scored.TTFT.Microseconds()) / 1000})
		return nil
	}
	for _, share := range o.Shares {
		b := *blend
		b.Share = share
		if err := try(b, decode.Request{Cache: cache.Spec{Policy: cache.Full}}); err != nil {
			return nil, err
		}
	}
	for _, memory := range o.Memories {
		b := *blend
		b.Memory = memory
		if _, err := engine.Remember(ctx, prompt, b, o.Cache); err != nil {
			return nil, err
		}
		if err := try(b, decode.Request{Cache: o.Cache, Budget: cache.Budget{Tokens: o.Tokens * o.Passages}}); err != nil {
			return nil, err
		}
	}
	whole, text, err := o.read(ctx, engine, decode.Request{Prompt: prompt, Cache: cache.Spec{Policy: cache.Full}}, gold)
	if err != nil {
		return nil, err
	}
	for i := range tried {
		t := &tried[i]
		t.FullF1, t.FullNLL, t.FullMS = retrieve.TokenF1(text, []string{q.section}), meanNLL(whole), float64(whole.TTFT.Microseconds())/1000
		t.AgreeF1 = retrieve.TokenF1(said[i], []string{text})
	}
	return tried, nil
}

// read scores the true answer of a prompt, and then lets the reader answer.
func (o BlendOptions) read(ctx context.Context, engine *decode.Engine, r decode.Request, gold []int32) (scored *decode.Result, text string, err error) {
	r.Force = gold
	if scored, err = decode.Wait(engine.Submit(ctx, r)); err != nil {
		return nil, "", err
	}
	r.Force, r.MaxTokens, r.Stop = nil, o.MaxTokens, retrieve.Stops
	said, err := decode.Wait(engine.Submit(ctx, r))
	if err != nil {
		return nil, "", err
	}
	return scored, said.Text, nil
}

// meanNLL is of the forced tokens, nats.
func meanNLL(r *decode.Result) float64 {
	sum := 0.0
	for _, s := range r.Scores {
		sum += s.NLL
	}
	return sum / float64(max(1, len(r.Scores)))
}
