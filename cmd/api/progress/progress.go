// Package progress tells on standard error how far long work is.
package progress

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// Every is how often a plain line is written where there is no terminal.
const Every = 5 * time.Second

// Progress tells how far long work is and when it will be done: one line that
// changes on a terminal, a plain one every few seconds elsewhere.
type Progress struct {
	w        io.Writer
	what     string
	total    int
	terminal bool
	start    time.Time
	first    int // done when the first report came: work that a log had finished takes no time
	last     time.Time
}

// IsTerminal tells whether progress may be drawn over itself.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// New is of total parts of what is named.
func New(f *os.File, what string, total int) *Progress {
	return &Progress{w: f, what: what, total: total, terminal: IsTerminal(f), first: -1}
}

// Show reports that done parts have ended.
func (p *Progress) Show(done int) {
	now := time.Now()
	if p.first < 0 {
		p.first, p.start, p.last = done, now, now
		return
	}
	every := Every
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

// Finish takes the line off a terminal.
func (p *Progress) Finish() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
