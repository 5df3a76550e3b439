package bench

import (
	"context"
	"errors"
	"os"
	"time"

	"lessrag/decode"
	"lessrag/decode/cache"
)

// Ours runs works on our engine with one cache.
type Ours struct {
	Engine *decode.Engine
	Spec   cache.Spec
	Budget cache.Budget
}

// Run submits all prompts at once and waits for all answers.
func (o Ours) Run(ctx context.Context, prompts [][]int32, tokens int) (Timing, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // those that wait behind one that failed
	var streams []<-chan decode.Chunk
	for _, prompt := range prompts {
		stream, err := o.Engine.Submit(ctx, decode.Request{Prompt: prompt, Cache: o.Spec, Budget: o.Budget, MaxTokens: tokens, IgnoreEnd: true})
		if err != nil {
			return Timing{}, err
		}
		streams = append(streams, stream)
	}
	var t Timing
	for i, stream := range streams {
		r, err := decode.Wait(stream, nil)
		if err != nil {
			return Timing{}, err
		}
		if r.CompletionTokens != tokens {
			return Timing{}, errors.New("an answer ended early: " + r.FinishReason)
		}
		if i == 0 {
			t.First = r.TTFT
		}
		t.Decode = max(t.Decode, r.Decode)
		t.Held += r.Memory.HeldBytes
	}
	return t, nil
}

// Used is this process's time.
func (o Ours) Used() time.Duration { return usedBy(os.Getpid()) }
