package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"

	"lessrag/cmd/api/progress"
	"lessrag/ingest"
)

// reporter shows how far an ingestion is: a bar with rate and time left on a
// terminal, a plain line every few seconds elsewhere.
type reporter struct {
	w     io.Writer
	total int
	bar   *progressbar.ProgressBar // nil when w is no terminal
	began time.Time
	last  time.Time
	done  int
	ahead int
}

func newReporter(f *os.File, total int) *reporter {
	r := &reporter{w: f, total: total, began: time.Now(), last: time.Now()}
	if progress.IsTerminal(f) {
		r.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(f),
			progressbar.OptionSetDescription("ingesting"),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("doc"),
			progressbar.OptionSetPredictTime(false), // the service knows sizes, the bar only counts
			progressbar.OptionSetElapsedTime(true),
			progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(100*time.Millisecond))
	}
	return r
}

// status is how far ingestions are.
type status struct {
	pending, done, failed int
	ahead                 int            // documents of others that come first
	at                    string         // what is worked on now: "embedding notes.md"
	eta                   *time.Duration // by the service's own rate
}

func statusOf(p ingest.Progress) status {
	s := status{pending: p.Pending, done: p.Ready + p.Failed, failed: p.Failed, ahead: p.Ahead, eta: p.ETA}
	for _, d := range p.Documents {
		if !d.State.Done() && d.State != ingest.Queued {
			s.at = string(d.State) + " " + d.Name
			break
		}
	}
	return s
}

// plus adds the status of a later ingestion, whose documents wait for those of the earlier.
func (s status) plus(later status) status {
	sum := status{s.pending + later.pending, s.done + later.done, s.failed + later.failed, s.ahead, s.at, s.eta}
	if s.pending == 0 {
		sum.ahead = later.ahead
	}
	if sum.at == "" {
		sum.at = later.at
	}
	if later.pending > 0 {
		sum.eta = later.eta
	}
	return sum
}

// behind says what is worked on while none of ours is.
func (s status) behind() string {
	return fmt.Sprintf("behind %d documents that were queued before", s.ahead)
}

// show reports on a bar with the stage, or as a plain line from time to time.
func (r *reporter) show(s status) {
	if r.bar != nil {
		what := "ingesting"
		switch {
		case s.at != "":
			what = clipLabel(s.at)
		case s.ahead > 0:
			what = s.behind()
		}
		if s.failed > 0 {
			what += fmt.Sprintf(" (%d failed)", s.failed)
		}
		if s.eta != nil && s.pending > 0 {
			what += fmt.Sprintf(", %v left", s.eta.Round(time.Second))
		}
		r.bar.Describe(what)
		r.bar.ChangeMax(max(r.total, s.done+s.pending)) // archives hold more than one
		r.bar.Set(s.done)                               // its error is of the terminal's
		return
	}
	if s.done == r.done && s.ahead == r.ahead || time.Since(r.last) < progress.Every {
		return
	}
	r.done, r.ahead, r.last = s.done, s.ahead, time.Now()
	line := fmt.Sprintf("ingesting: %d of %d documents, %d failed, %.1f a second", s.done, max(r.total, s.done+s.pending), s.failed, float64(s.done)/time.Since(r.began).Seconds())
	if s.eta != nil && s.pending > 0 {
		line += fmt.Sprintf(", %v left", s.eta.Round(time.Second))
	}
	switch {
	case s.at != "":
		line += "; " + s.at
	case s.ahead > 0:
		line += "; " + s.behind()
	}
	fmt.Fprintln(r.w, line)
}

// clipLabel keeps the end of a long name, which tells more.
func clipLabel(s string) string {
	runes := []rune(s)
	if len(runes) <= 40 {
		return s
	}
	return string(runes[:12]) + "…" + string(runes[len(runes)-27:])
}

// finish leaves the terminal on a line of its own.
func (r *reporter) finish() {
	if r.bar != nil {
		r.bar.Exit()
		fmt.Fprintln(r.w)
	}
}
