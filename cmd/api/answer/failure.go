package answer

import (
	"errors"

	"lessrag/decode"
	"lessrag/retrieve"
)

// errNoRoom ends a run whose first passage alone is larger than the prompt may be.
var errNoRoom = errors.New("no passage fits into the prompt")

// failureOf is what a client is told about an error: those that it can act on
// in words, the others without their insides.
func failureOf(err error) *Failure {
	var full *decode.QueueFullError
	var memory *decode.MemoryError
	var unready *decode.NotReadyError
	var mismatch *retrieve.EmbedderMismatchError
	switch {
	case errors.As(err, &full):
		return &Failure{"queue_full", err.Error()}
	case errors.As(err, &unready):
		return &Failure{"not_ready", err.Error()}
	case errors.As(err, &memory):
		return &Failure{"no_memory", err.Error()}
	case errors.As(err, &mismatch):
		return &Failure{"embedder_mismatch", err.Error()}
	case errors.Is(err, errNoRoom):
		return &Failure{"no_room", err.Error() + ": ask for fewer max_tokens, or start the server with more context tokens"}
	case errors.Is(err, retrieve.ErrNotFound):
		return &Failure{"not_found", "the collection is gone"}
	default:
		return &Failure{"internal", "the answer could not be finished; the server's log says why"}
	}
}
