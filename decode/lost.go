package decode

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"lessrag/decode/model"
	"lessrag/lesskernels/cuda/device"
)

// retryLost is how long the engine waits before it tries again to get a lost device back.
const retryLost = 30 * time.Second

// Ready is nil where requests are taken: on one device at least. Otherwise all were lost, and the *NotReadyError tells
// why, and what came of opening them anew.
func (e *Engine) Ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if why := e.unready(); why != nil {
		return &NotReadyError{why}
	}
	return nil
}

// lose ends the answers that run, since the device is lost, and those that wait where there is no other, and tries to
// get it back.
func (e *Engine) lose(why error) {
	e.mu.Lock()
	e.lost, e.cause = why, why
	jobs := slices.Clone(e.running)
	if e.unready() != nil {
		jobs = append(jobs, e.withdraw(everyJob)...)
	}
	e.mu.Unlock()
	for _, j := range jobs {
		e.finish(j, "", &NotReadyError{why})
	}
	for len(e.prefixes) > 0 { // what they hold is gone
		e.drop(e.prefixes[0])
	}
	for _, s := range []model.Sequence{e.staging.sequence, e.desk} {
		if s != nil {
			s.Free()
		}
	}
	e.staging, e.desk = staging{}, nil
	if f := e.idle.feeder; f != nil {
		e.idle.feeder = nil
		f.free()
	}
	e.stirAll() // what waited for this one
	e.revive()
}

// loses tells whether err is that of a lost device, and lets it go if so.
func (e *Engine) loses(err error) bool {
	if !errors.Is(err, device.ErrLost) {
		return false
	}
	e.lose(err)
	return true
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
