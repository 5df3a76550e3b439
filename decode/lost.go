package decode

import (
	"fmt"
	"slices"
	"time"
)

// retryLost is how long the engine waits before it tries again to get a lost device back.
const retryLost = 30 * time.Second

// Ready is nil where the engine takes requests. Otherwise its device was lost, and the *NotReadyError tells
// why, and what came of opening it anew.
func (e *Engine) Ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lost == nil {
		return nil
	}
	return &NotReadyError{e.lost}
}

// lose ends all answers, running and waiting, since the device is lost, and tries to get it back.
func (e *Engine) lose(why error) {
	e.mu.Lock()
	e.lost, e.cause = why, why
	jobs := slices.Concat(e.running, e.waiting)
	e.mu.Unlock()
	for _, j := range jobs {
		e.finish(j, "", &NotReadyError{why})
	}
	for len(e.prefixes) > 0 { // what they hold is gone
		e.drop(e.prefixes[0])
	}
	if s := e.staging.sequence; s != nil {
		e.staging = staging{}
		s.Free()
	}
	e.revive()
}

// revive opens the lost device anew; where that fails it will be tried again.
func (e *Engine) revive() {
	e.retry = nil
	if e.recover == nil {
		return
	}
	err := e.recover()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		e.lost = nil
		return
	}
	e.lost = fmt.Errorf("%w; and it does not come back: %w", e.cause, err)
	e.retry = time.After(e.options.retryLost)
}
