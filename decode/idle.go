package decode

import (
	"slices"
	"time"

	"lessrag/decode/passages"
)

// idle computes passages for the store while nobody waits for anything. It belongs to
// the engine's goroutine.
type idle struct {
	fills  []fill // the newest last
	feeder *feeder
	began  bool // a block was computed since the last pass
}

const (
	// idlePatience is how long nobody must have asked for anything: a question that
	// follows another at once finds the engine free.
	idlePatience = 300 * time.Millisecond
	// mostFills is how many passages wait to be computed; the oldest are forgotten.
	mostFills = 64
)

// learn notes the passages of a prompt that the store does not hold.
func (i *idle) learn(fills []fill) {
	for _, f := range fills {
		same := func(other fill) bool { return other.key == f.key }
		if i.feeder != nil && same(i.feeder.fill) || slices.ContainsFunc(i.fills, same) {
			continue
		}
		i.fills = append(i.fills, f)
	}
	i.fills = slices.Delete(i.fills, 0, max(0, len(i.fills)-mostFills))
}

// wait is when the next block of a passage may be computed: nil where there is none.
func (i *idle) wait() <-chan time.Time {
	if len(i.fills) == 0 && i.feeder == nil {
		return nil
	}
	if i.began {
		return time.After(0)
	}
	return time.After(idlePatience)
}

// useIdleTime computes one block of a passage. One that fails is forgotten: it will be
// read with its prompt as before.
func (e *Engine) useIdleTime() {
	i := &e.idle
	i.began = true
	if i.feeder == nil {
		last := len(i.fills) - 1
		f := i.fills[last]
		i.fills = i.fills[:last]
		if e.options.Passages.Has(f.key) {
			return
		}
		i.feeder = &feeder{fill: f}
	}
	p, err := i.feeder.step(e.blender, e.options.Block)
	if p == nil && err == nil {
		return
	}
	if e.loses(err) { // and the feeder with it
		return
	}
	i.feeder.free()
	if p != nil {
		e.store(i.feeder.key, p)
	}
	i.feeder = nil
}

// store puts a passage away; its file is written beside the passes.
func (e *Engine) store(k passages.Key, p *passages.Passage) {
	e.writes.Go(func() {
		if err := e.options.Passages.Put(k, p); err != nil {
			e.mu.Lock()
			e.stats.Unwritten++
			e.mu.Unlock()
		}
	})
}
