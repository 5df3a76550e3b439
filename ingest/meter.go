package ingest

import (
	"sync"
	"time"
)

// meter adds up the time in which at least one of several workers is at something. Two at once count once.
type meter struct {
	mu    sync.Mutex
	n     int // workers that are at it
	since time.Time
	total time.Duration
}

// enter begins a stay, which the function that it returns ends.
func (m *meter) enter() (leave func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n++; m.n == 1 {
		m.since = time.Now()
	}
	return m.leave
}

func (m *meter) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n--; m.n == 0 {
		m.total += time.Since(m.since)
	}
}

// time is what has been added up until now.
func (m *meter) time() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n > 0 {
		return m.total + time.Since(m.since)
	}
	return m.total
}
