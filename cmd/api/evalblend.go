package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"lessrag/cmd/api/answer"
	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/decode/passages"
	"lessrag/retrieve"
)

// evalBlendCmd measures what answers from blended passages lose and gain.
type evalBlendCmd struct {
	Questions int       `help:"Questions to ask, of the FAQs of make fetch-eval. Fewer than 100 leave the gate shut." default:"100" placeholder:"N"`
	Passages  int       `help:"Passages in a prompt: the one that answers, and others." default:"6" placeholder:"N"`
	Tokens    int       `help:"Tokens of a passage." default:"512" placeholder:"N"`
	Shares    []float64 `help:"Shares of the passages' rows that are computed anew. The first is the one that --write writes." default:"0.15" placeholder:"R"`
	Memories  []float64 `help:"Also read passages of which only memories are kept, in these shares of their bytes." placeholder:"R"`
	Cache     string    `help:"Cache of --memories: one of sinks, h2o, tova and corm with a state." default:"h2o+less"`
	MaxTokens int       `help:"Tokens of an answer." default:"64" placeholder:"N"`
	Seed      uint64    `help:"Seed of the choice of questions and of the other passages." default:"1"`
	Novel     int       `help:"Also time so many pairs of prompts of passages that nobody has asked about: what looking for them costs." default:"0" placeholder:"N"`
	Write     bool      `help:"Write what was measured beside the model: questions are answered from blended passages from then on if the model stands it, and never if it does not."`
	Log       string    `help:"Keep every finished question in this file and go on from it after an interruption." placeholder:"FILE" type:"path"`
	JSON      bool      `help:"Print one JSON object."`
}

// blendTried is one question, read whole and from blended passages.
type blendTried struct {
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

// blendEvaluation is what --json prints.
type blendEvaluation struct {
	Gates []passages.Gate `json:"gates"`
	Novel *blendNovel     `json:"novel,omitempty"`
	Tried []blendTried    `json:"tried"`
}

// goldTokens is how much of the text that answers is scored.
const goldTokens = 48

// Run asks every question of every share and prints means.
func (c *evalBlendCmd) Run(ctx context.Context, g *globals) (err error) {
	switch {
	case c.Questions < 1 || c.Passages < 1 || c.Tokens < 64 || c.MaxTokens < 1 || len(c.Shares) == 0:
		return usageError{errors.New("--questions, --passages and --max-tokens are at least 1, --tokens at least 64")}
	case len(c.Memories) > 0 && (slices.Min(c.Memories) <= 0 || slices.Max(c.Memories) >= 1):
		return usageError{errors.New("--memories are above 0 and below 1")}
	case slices.Min(c.Shares) <= 0 || slices.Max(c.Shares) > 1:
		return usageError{errors.New("--shares are above 0 and at most 1")}
	}
	spec, err := cache.ParseSpec(c.Cache)
	if err == nil && !spec.Remembers() {
		err = fmt.Errorf("cache %s takes no passage memories", spec)
	}
	if err != nil {
		return usageError{fmt.Errorf("--cache: %w", err)}
	}
	store, err := passages.Open(passages.Options{Memory: 1 << 30})
	if err != nil {
		return err
	}
	log, err := openEvalLog(c.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.close()) }()
	s := &stack{globals: g}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openEngine(decode.Options{Passages: store}); err != nil {
		return err
	}
	questions, err := c.questions(ctx, g, s.engine)
	if err != nil {
		return err
	}
	e := blendEvaluation{}
	progress := newProgress(os.Stderr, "answering", len(questions))
	for i, q := range questions {
		key := evalKey{Question: q.question, Source: fmt.Sprintf("%d passages of %d, others from a pool, seed %d", c.Passages, c.Tokens, c.Seed),
			Collection: s.engine.Info().Hash, Cache: fmt.Sprint(c.Shares), Mode: fmt.Sprint(c.Memories, c.Cache), Prompt: fmt.Sprintf("answer %d", c.MaxTokens)}
		tried, err := remembered(log, key, func() ([]blendTried, error) { return c.ask(ctx, s.engine, q, spec) })
		if err != nil {
			return fmt.Errorf("question %q: %w", q.question, err)
		}
		e.Tried = append(e.Tried, tried...)
		progress.show(i + 1)
	}
	progress.finish()
	if c.Novel > 0 {
		if e.Novel, err = c.novel(ctx, s.engine, questions, log); err != nil {
			return err
		}
	}
	info := s.engine.Info()
	for _, share := range c.Shares {
		gate := newGate(share, e.Tried)
		gate.Model, gate.Name, gate.Passages, gate.Tokens, gate.Seed = info.Hash, info.Name, c.Passages, c.Tokens, c.Seed
		e.Gates = append(e.Gates, gate)
	}
	if c.Write {
		if err := e.Gates[0].Write(passages.BesideModel(info.Path)); err != nil {
			return fmt.Errorf("write the gate: %w", err)
		}
	}
	if c.JSON {
		return printJSON(e)
	}
	return e.print(os.Stdout, c)
}

// newGate is the means of one share; ratios of times are medians.
func newGate(share float64, tried []blendTried) passages.Gate {
	gate := passages.Gate{Share: share}
	var ratios []float64
	for _, t := range tried {
		if t.Share != share || t.Memory > 0 {
			continue
		}
		gate.Questions++
		gate.FullF1, gate.BlendF1 = gate.FullF1+t.FullF1, gate.BlendF1+t.BlendF1
		gate.FullNLL, gate.BlendNLL = gate.FullNLL+t.FullNLL, gate.BlendNLL+t.BlendNLL
		ratios = append(ratios, t.FullMS/max(t.BlendMS, 1e-3))
	}
	for _, sum := range []*float64{&gate.FullF1, &gate.BlendF1, &gate.FullNLL, &gate.BlendNLL} {
		*sum /= float64(max(gate.Questions, 1))
	}
	gate.Speedup = median(ratios)
	return gate
}

func (e blendEvaluation) print(w io.Writer, c *evalBlendCmd) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "share\tquestions\tF1 whole\tblended\tagreement\tNLL whole\tblended\tfirst token whole\tblended\tsooner\t")
	for _, g := range e.Gates {
		var agree, full, blend []float64
		for _, r := range e.Tried {
			if r.Share == g.Share && r.Memory == 0 {
				agree, full, blend = append(agree, r.AgreeF1), append(full, r.FullMS), append(blend, r.BlendMS)
			}
		}
		fmt.Fprintf(t, "%.2f\t%d\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.0f ms\t%.0f ms\t%.2f×\t\n", g.Share, g.Questions, g.FullF1, g.BlendF1,
			sum(agree)/float64(max(len(agree), 1)), g.FullNLL, g.BlendNLL, median(full), median(blend), g.Speedup)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, g := range e.Gates {
		fmt.Fprintln(w, g)
	}
	for _, m := range c.Memories {
		var f1, nll, first, kept []float64
		for _, r := range e.Tried {
			if r.Memory == m {
				f1, nll, first = append(f1, r.BlendF1-r.FullF1), append(nll, r.BlendNLL-r.FullNLL), append(first, r.FullMS/r.BlendMS)
				kept = append(kept, float64(r.Bytes)/float64(r.FullBytes))
			}
		}
		n := float64(max(len(f1), 1))
		fmt.Fprintf(w, "memories of %.0f%% (%s): F1 %+.3f, %+.3f nats a token, first token %.1f times sooner, held %.1f%% of a full cache, over %d questions\n",
			100*m, c.Cache, sum(f1)/n, sum(nll)/n, median(first), 100*sum(kept)/n, len(f1))
	}
	if n := e.Novel; n != nil {
		fmt.Fprintf(w, "%d pairs of prompts of new passages: first token after %.0f ms, read plainly %.0f ms; %.3f of the time of all\n", n.Pairs, n.BlendMS, n.PlainMS, n.Ratio)
	}
	if c.Write {
		fmt.Fprintln(w, "written beside the model; `--blend on` and `--blend off` overrule it")
	}
	return nil
}

// blendQuestion is a question with the passages to read.
type blendQuestion struct {
	question, section string
	found             []retrieve.Passage // the best first
}

// otherPassages is how many passages that do not answer there are, for each that a
// prompt has: they come again, as the frequent passages of a collection do.
const otherPassages = 4

// questions are chosen and their passages cut: the one that answers among the first
// three, the others from places of the same pages taken by chance.
func (c *evalBlendCmd) questions(ctx context.Context, g *globals, engine *decode.Engine) ([]blendQuestion, error) {
	dir := filepath.Join(g.assets(), "faq")
	all, err := readSet(filepath.Join(dir, "questions.jsonl"), true)
	if err != nil {
		return nil, fmt.Errorf("%w: run `make fetch-eval`", err)
	}
	random := rand.New(rand.NewPCG(c.Seed, 3))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	pages := map[string][]int32{}
	var names []string
	tokens := func(source string) ([]int32, error) {
		if known, ok := pages[source]; ok {
			return known, nil
		}
		page, err := readPage(ctx, filepath.Join(dir, "pages", source))
		if err != nil {
			return nil, err
		}
		pages[source] = engine.Tokenizer().Encode(page.Text)
		if names = append(names, source); len(pages[source]) < c.Tokens {
			names = names[:len(names)-1]
		}
		return pages[source], nil
	}
	for _, q := range all {
		if _, err := tokens(q.Source); err != nil {
			return nil, err
		}
	}
	var questions []blendQuestion
	var others []retrieve.Passage
	for _, q := range all {
		page, start, found := pages[q.Source], 0, false
		if text := engine.Tokenizer().Decode(page); q.Section != "" {
			begin := strings.Join(strings.Fields(q.Section)[:min(4, len(strings.Fields(q.Section)))], " ")
			at := strings.Index(strings.Join(strings.Fields(text), " "), begin)
			if found = at >= 0; found {
				start = len(engine.Tokenizer().Encode(strings.Join(strings.Fields(text), " ")[:at]))
				page = engine.Tokenizer().Encode(strings.Join(strings.Fields(text), " "))
			}
		}
		if !found || len(page) < c.Tokens {
			continue
		}
		cut := func(page []int32, at int, name string) retrieve.Passage {
			at = max(0, min(at, len(page)-c.Tokens))
			return retrieve.Passage{Document: retrieve.Document{Name: name}, Text: strings.ToValidUTF8(engine.Tokenizer().Decode(page[at:at+c.Tokens]), "")}
		}
		gold := cut(page, start-c.Tokens/8, q.Source)
		b := blendQuestion{question: q.Question, section: q.Section}
		if others == nil {
			for range otherPassages * c.Passages {
				name := names[random.IntN(len(names))]
				others = append(others, cut(pages[name], random.IntN(len(pages[name])), name))
			}
		}
		for _, i := range random.Perm(len(others)) {
			if others[i].Document.Name != q.Source && len(b.found) < c.Passages-1 {
				b.found = append(b.found, others[i])
			}
		}
		if len(b.found) < c.Passages-1 {
			return nil, fmt.Errorf("too few pages of %d tokens beside %s", c.Tokens, q.Source)
		}
		b.found = slices.Insert(b.found, min(len(questions)%3, len(b.found)), gold)
		if questions = append(questions, b); len(questions) == c.Questions {
			break
		}
	}
	return questions, nil
}

// ask reads a question's prompt from blended passages of every share, and whole. What
// is read whole is kept as a beginning of later prompts, so it comes last.
func (c *evalBlendCmd) ask(ctx context.Context, engine *decode.Engine, q blendQuestion, spec cache.Spec) ([]blendTried, error) {
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
	var tried []blendTried
	var said []string
	try := func(b decode.Blend, r decode.Request) error {
		r.Prompt, r.Blend = prompt, &b
		scored, text, err := c.read(ctx, engine, r, gold)
		if err != nil {
			return err
		}
		said = append(said, text)
		tried = append(tried, blendTried{Share: b.Share, Memory: b.Memory, Prompt: len(prompt), Bytes: scored.Memory.HeldBytes, FullBytes: scored.Memory.FullCacheBytes, Reused: scored.ReusedTokens, Recomputed: scored.RecomputedTokens,
			BlendF1: retrieve.TokenF1(text, []string{q.section}), BlendNLL: meanNLL(scored), BlendMS: float64(scored.TTFT.Microseconds()) / 1000})
		return nil
	}
	for _, share := range c.Shares {
		b := *blend
		b.Share = share
		if err := try(b, decode.Request{Cache: cache.Spec{Policy: cache.Full}}); err != nil {
			return nil, err
		}
	}
	for _, memory := range c.Memories {
		b := *blend
		b.Memory = memory
		if _, err := engine.Remember(ctx, prompt, b, spec); err != nil {
			return nil, err
		}
		if err := try(b, decode.Request{Cache: spec, Budget: cache.Budget{Tokens: c.Tokens * c.Passages}}); err != nil {
			return nil, err
		}
	}
	whole, text, err := c.read(ctx, engine, decode.Request{Prompt: prompt, Cache: cache.Spec{Policy: cache.Full}}, gold)
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
func (c *evalBlendCmd) read(ctx context.Context, engine *decode.Engine, r decode.Request, gold []int32) (scored *decode.Result, text string, err error) {
	r.Force = gold
	if scored, err = wait(engine.Submit(ctx, r)); err != nil {
		return nil, "", err
	}
	r.Force, r.MaxTokens, r.Stop = nil, c.MaxTokens, retrieve.Stops
	said, err := wait(engine.Submit(ctx, r))
	if err != nil {
		return nil, "", err
	}
	return scored, said.Text, nil
}

// wait reads an answer to its end.
func wait(chunks <-chan decode.Chunk, err error) (*decode.Result, error) {
	if err != nil {
		return nil, err
	}
	for chunk := range chunks {
		if chunk.Err != nil {
			return nil, chunk.Err
		}
		if chunk.Result != nil {
			if chunk.Result.FinishReason == decode.FinishCancelled {
				return nil, context.Canceled
			}
			return chunk.Result, nil
		}
	}
	return nil, errors.New("the decoder ended without a result")
}

// meanNLL is of the forced tokens, nats.
func meanNLL(r *decode.Result) float64 {
	sum := 0.0
	for _, s := range r.Scores {
		sum += s.NLL
	}
	return sum / float64(max(1, len(r.Scores)))
}
