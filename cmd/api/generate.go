package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"lessrag/decode"
)

type generateCmd struct {
	Prompt     string `arg:"" optional:"" help:"The prompt; or use --prompt-file."`
	PromptFile string `help:"Read the prompt from this file; - is standard input." placeholder:"FILE"`
	Chat       bool   `help:"Put the prompt into the model's chat template as the user's turn."`
	cacheFlags
	Question      int      `help:"How many of the prompt's last tokens are its question, for caches that keep what a question needs (snapkv, vote); 0: not known." default:"0" placeholder:"TOKENS"`
	Staging       int      `help:"Tokens of a prompt that snapkv and vote read at once; a longer prompt is read in chunks." default:"4096" placeholder:"TOKENS"`
	MaxTokens     int      `help:"Tokens to decode at most." default:"128"`
	Stop          []string `help:"Stop before this text; may be repeated." sep:"none"`
	Temperature   float32  `help:"0 takes the likeliest token always." default:"0"`
	TopK          int      `help:"Sample among the K likeliest; 0 means all." default:"0"`
	TopP          float32  `help:"Sample among the likeliest tokens that hold this much probability." default:"1"`
	MinP          float32  `help:"Drop tokens less likely than this share of the likeliest." default:"0"`
	RepeatPenalty float32  `help:"Divide the logits of recent tokens by this; 1 changes nothing." default:"1"`
	Seed          uint64   `help:"Seed of the sampler." default:"0"`
	JSON          bool     `help:"Print one JSON object: text, token ids, timings, bytes."`
}

// generated is what --json prints.
type generated struct {
	Text             string  `json:"text"`
	Tokens           []int32 `json:"tokens"`
	PromptTokens     int     `json:"prompt_tokens"`
	ReusedTokens     int     `json:"reused_tokens"`
	CompletionTokens int     `json:"completion_tokens"`
	FinishReason     string  `json:"finish_reason"`
	Timing           struct {
		PrefillMS       float64 `json:"prefill_ms"`
		TTFTMS          float64 `json:"ttft_ms"`
		DecodeMS        float64 `json:"decode_ms"`
		TokensPerSecond float64 `json:"tokens_per_second"`
	} `json:"timing"`
	Memory struct {
		Cache          string `json:"cache"`
		BudgetBytes    int64  `json:"budget_bytes"`
		HeldBytes      int64  `json:"held_bytes"`
		FullCacheBytes int64  `json:"full_cache_bytes"`
		KeptTokens     int    `json:"kept_tokens"`
		AbsorbedTokens int    `json:"absorbed_tokens"`
		EvictedTokens  int    `json:"evicted_tokens"`
		StateNote      string `json:"state_note,omitempty"`
	} `json:"memory"`
}

// Run decodes one prompt; the text streams to standard output.
func (c *generateCmd) Run(ctx context.Context, g *globals) (err error) {
	spec, budget, err := c.parse()
	if err != nil {
		return err
	}
	text, err := c.text()
	if err != nil {
		return err
	}
	s := &stack{globals: g}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openEngine(decode.Options{StagingTokens: c.Staging}); err != nil {
		return err
	}
	prompt, err := c.encode(s.engine, text)
	if err != nil {
		return err
	}

	chunks, err := s.engine.Submit(ctx, decode.Request{
		Prompt: prompt, Question: c.Question, Cache: spec, Budget: budget, MaxTokens: c.MaxTokens, Stop: c.Stop,
		Sampling: decode.Sampling{
			Temperature: c.Temperature, TopK: c.TopK, TopP: c.TopP, MinP: c.MinP, RepeatPenalty: c.RepeatPenalty, Seed: c.Seed,
		},
	})
	if err != nil {
		return err
	}
	result, err := c.stream(chunks)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(describe(result))
	}
	fmt.Println()
	fmt.Fprintf(os.Stderr, "%d prompt tokens in %v; %d tokens, %.1f tokens/s; %s: %s held of %s\n",
		result.PromptTokens, result.Prefill.Round(time.Millisecond), result.CompletionTokens, perSecond(result),
		result.Memory.Cache, bytesText(result.Memory.HeldBytes), bytesText(result.Memory.BudgetBytes))
	noteState(os.Stderr, result.Memory.StateNote)
	return nil
}

func (c *generateCmd) text() (string, error) {
	switch {
	case c.Prompt != "" && c.PromptFile != "":
		return "", usageError{errors.New("give the prompt or --prompt-file, not both")}
	case c.PromptFile == "-":
		data, err := io.ReadAll(os.Stdin)
		return string(data), err
	case c.PromptFile != "":
		data, err := os.ReadFile(c.PromptFile)
		return string(data), err
	case c.Prompt == "":
		return "", usageError{errors.New("give a prompt, or --prompt-file FILE")}
	}
	return c.Prompt, nil
}

func (c *generateCmd) encode(engine *decode.Engine, text string) ([]int32, error) {
	if c.Chat {
		return engine.Template().Encode(engine.Tokenizer(), []decode.Message{{Role: "user", Content: text}})
	}
	return engine.Tokenizer().Encode(text), nil
}

// stream copies text to standard output as it comes, unless --json keeps that
// for the object.
func (c *generateCmd) stream(chunks <-chan decode.Chunk) (*decode.Result, error) {
	for chunk := range chunks {
		if chunk.Err != nil {
			return nil, chunk.Err
		}
		if !c.JSON {
			fmt.Print(chunk.Text)
		}
		if chunk.Result != nil {
			return chunk.Result, nil
		}
	}
	return nil, errors.New("the decoder ended without a result")
}

func describe(r *decode.Result) generated {
	g := generated{
		Text: r.Text, Tokens: r.Tokens, PromptTokens: r.PromptTokens, ReusedTokens: r.ReusedTokens, CompletionTokens: r.CompletionTokens, FinishReason: r.FinishReason,
	}
	g.Timing.PrefillMS, g.Timing.TTFTMS, g.Timing.DecodeMS = milliseconds(r.Prefill), milliseconds(r.TTFT), milliseconds(r.Decode)
	g.Timing.TokensPerSecond = perSecond(r)
	m := r.Memory
	g.Memory.Cache, g.Memory.BudgetBytes, g.Memory.HeldBytes, g.Memory.FullCacheBytes = m.Cache, m.BudgetBytes, m.HeldBytes, m.FullCacheBytes
	g.Memory.KeptTokens, g.Memory.AbsorbedTokens, g.Memory.EvictedTokens, g.Memory.StateNote = m.KeptTokens, m.AbsorbedTokens, m.EvictedTokens, m.StateNote
	return g
}

// perSecond is the decoding rate: the first token belongs to the prefill.
func perSecond(r *decode.Result) float64 {
	if r.CompletionTokens < 2 || r.Decode <= 0 {
		return 0
	}
	return float64(r.CompletionTokens-1) / r.Decode.Seconds()
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
