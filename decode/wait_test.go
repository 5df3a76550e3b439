package decode

import (
	"context"
	"errors"
	"testing"
)

func TestWait(t *testing.T) {
	broken, whole := errors.New("broken"), &Result{FinishReason: FinishLength}
	stream := func(chunks ...Chunk) <-chan Chunk {
		c := make(chan Chunk, len(chunks))
		for _, chunk := range chunks {
			c <- chunk
		}
		close(c)
		return c
	}
	for name, test := range map[string]struct {
		chunks <-chan Chunk
		err    error
		want   *Result
		is     error
	}{
		"refused":   {nil, broken, nil, broken},
		"whole":     {stream(Chunk{Prefilled: 3}, Chunk{Text: "a"}, Chunk{Result: whole}), nil, whole, nil},
		"failed":    {stream(Chunk{Text: "a"}, Chunk{Err: broken}), nil, nil, broken},
		"cancelled": {stream(Chunk{Result: &Result{FinishReason: FinishCancelled}}), nil, nil, context.Canceled},
	} {
		if got, err := Wait(test.chunks, test.err); got != test.want || !errors.Is(err, test.is) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := Wait(stream(Chunk{Text: "a"}), nil); got != nil || err == nil {
		t.Errorf("without an end: %v, %v", got, err)
	}
}
