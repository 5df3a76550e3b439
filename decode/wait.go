package decode

import (
	"context"
	"errors"
)

// Wait reads what Submit returned to its end, for those who want an answer as a whole. That the
// caller's context ended is an error here.
func Wait(chunks <-chan Chunk, err error) (*Result, error) {
	if err != nil {
		return nil, err
	}
	for chunk := range chunks {
		switch {
		case chunk.Err != nil:
			return nil, chunk.Err
		case chunk.Result == nil:
		case chunk.Result.FinishReason == FinishCancelled:
			return nil, context.Canceled
		default:
			return chunk.Result, nil
		}
	}
	return nil, errors.New("the decoder ended without a result")
}
