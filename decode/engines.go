package decode

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// engines are those over one model, one for each device. The requests that wait are theirs together, and so
// is the lock: whichever has room takes the first one, as Choose says.
type engines struct {
	all []*Engine

	mu      sync.Mutex // guards what follows, and what an engine says that it does
	closed  bool
	waiting []*job // first come first
	pace    time.Duration
}

// engineFor is the engine that starts a job; nil where none can now. s.mu is held.
func (s *engines) engineFor(j *job) *Engine {
	places := make([]Place, len(s.all))
	for i, e := range s.all {
		places[i] = Place{Lost: e.lost != nil, Sequences: e.options.MaxSequences - len(e.running), Free: e.free + e.kept,
			Promised: e.options.CacheMemory - e.free - e.kept}
		if len(s.all) > 1 && places[i].takes(j.plan.Bytes) {
			places[i].Known = e.known(j)
		}
	}
	if i := Choose(places, j.plan.Bytes, len(j.prompt)); i >= 0 {
		return s.all[i]
	}
	return nil
}

// stirAll wakes all engines.
func (s *engines) stirAll() {
	for _, e := range s.all {
		e.stir()
	}
}

// unready is nil where an engine takes requests, or else why none does. s.mu is held.
func (s *engines) unready() error {
	var why error
	for i, e := range s.all {
		switch {
		case e.lost == nil:
			return nil
		case len(s.all) == 1:
			return e.lost
		case i == 0:
			why = fmt.Errorf("%s: %w", e.info.Device, e.lost)
		default:
			why = fmt.Errorf("%w; %s: %w", why, e.info.Device, e.lost)
		}
	}
	return why
}

func everyJob(*job) bool { return true }

// withdraw takes those jobs out of the queue that a condition holds for; nobody else will end them. s.mu is held.
func (s *engines) withdraw(from func(*job) bool) []*job {
	var gone []*job
	s.waiting = slices.DeleteFunc(s.waiting, func(j *job) bool {
		if !from(j) {
			return false
		}
		gone = append(gone, j)
		return true
	})
	return gone
}
