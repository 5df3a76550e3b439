package decode

import (
	"context"
	"errors"
	"slices"
	"testing"

	"lessrag/decode/cache"
)

// A pass that fails ends a prompt once, however many of its blocks were in it.
func TestChainedBlocksEndOnce(t *testing.T) {
	broken := errors.New("the device is gone")
	l := &letters{breakage: broken}
	e := l.engine(t, Options{Block: 16})
	for range 2 {
		_, r, err := read(submit(t, e, context.Background(),
			Request{Prompt: slices.Repeat([]int32{1}, 60), Cache: spec(t, "sinks"), Budget: cache.Budget{Tokens: 20}, MaxTokens: 4}))
		if !errors.Is(err, broken) || r != nil {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if n := l.entered.Load(); n != 2 {
		t.Errorf("%d passes", n)
	}
}
