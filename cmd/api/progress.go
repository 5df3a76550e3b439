package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress tells how far long work is and when it will be done: one line that
// changes on a terminal, a plain one every few seconds elsewhere.
type progress struct {
	w        io.Writer
	what     string
	total    int
	terminal bool
	start    time.Time
	first    int // done when the first report came: work that a log had finished takes no time
	last     time.Time
}

func newProgress(f *os.File, what string, total int) *progress {
	return &progress{w: f, what: what, total: total, terminal: isTerminal(f), first: -1}
}

// show reports that done parts have ended.
func (p *progress) show(done int) {
	now := time.Now()
	if p.first < 0 {
		p.first, p.start, p.last = done, now, now
		return
	}
	every := plainEvery
	if p.terminal {
		every /= 50
	}
	if now.Sub(p.last) < every || done == p.first {
		return
	}
	p.last = now
	left := time.Duration(float64(now.Sub(p.start)) / float64(done-p.first) * float64(p.total-done))
	line := fmt.Sprintf("%s: %d of %d, about %v left", p.what, done, p.total, left.Round(time.Second))
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", line)
		return
	}
	fmt.Fprintln(p.w, line)
}

// finish takes the line off a terminal.
func (p *progress) finish() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
