package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// reporter shows how far an ingestion is: a bar with rate and time left on a
// terminal, a plain line every few seconds elsewhere.
type reporter struct {
	w     io.Writer
	total int
	bar   *progressbar.ProgressBar // nil when w is no terminal
	last  time.Time
	done  int
}

const plainEvery = 5 * time.Second

func newReporter(f *os.File, total int) *reporter {
	r := &reporter{w: f, total: total, last: time.Now()}
	if isTerminal(f) {
		r.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(f),
			progressbar.OptionSetDescription("ingesting"),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("doc"),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(100*time.Millisecond))
	}
	return r
}

// show reports that done of the documents have ended, failed of them badly.
func (r *reporter) show(done, failed int) {
	if r.bar != nil {
		if failed > 0 {
			r.bar.Describe(fmt.Sprintf("ingesting (%d failed)", failed))
		}
		r.bar.Set(min(done, r.total)) // its error is of the terminal's
		return
	}
	if done == r.done || time.Since(r.last) < plainEvery {
		return
	}
	r.done, r.last = done, time.Now()
	fmt.Fprintf(r.w, "ingesting: %d of %d documents, %d failed\n", done, r.total, failed)
}

// finish leaves the terminal on a line of its own.
func (r *reporter) finish() {
	if r.bar != nil {
		r.bar.Exit()
		fmt.Fprintln(r.w)
	}
}
