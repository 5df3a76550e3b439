package decode

import (
	"errors"
	"fmt"
	"time"
)

// ErrClosed tells that the engine was closed.
var ErrClosed = errors.New("decode: the engine is closed")

// NotReadyError tells why the engine takes no requests, and has ended those that there were: its device
// was lost. It takes some again where the device comes back.
type NotReadyError struct {
	Reason error
}

func (e *NotReadyError) Error() string { return fmt.Sprintf("the decoder is not ready: %v", e.Reason) }

func (e *NotReadyError) Unwrap() error { return e.Reason }

// InvalidError tells which field of a Request cannot be served.
type InvalidError struct {
	Field  string
	Reason string
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Reason) }

// PromptTooLongError tells that a prompt leaves no room for an answer.
type PromptTooLongError struct {
	Have int // tokens in the prompt
	Max  int // tokens that it may have
}

func (e *PromptTooLongError) Error() string {
	return fmt.Sprintf("the prompt has %d tokens and at most %d fit", e.Have, e.Max)
}

// QueueFullError tells that too many requests are waiting.
type QueueFullError struct {
	Queued     int
	RetryAfter time.Duration
}

func (e *QueueFullError) Error() string {
	return fmt.Sprintf("%d requests are waiting already; try again in %s", e.Queued, e.RetryAfter)
}

// MemoryError tells that one sequence would need more than all cache memory.
type MemoryError struct {
	Need int64 // bytes of the sequence's Plan
	Have int64 // bytes of all cache memory
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("the cache of this request needs %d bytes and the engine has %d for all; use a smaller budget", e.Need, e.Have)
}
