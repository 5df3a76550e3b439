package answer

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"lessrag/retrieve"
)

// maxEvents bounds what a run keeps for readers that come late.
const maxEvents = 4096

// Run is one answer on its way. Any number of readers may follow it, each at
// its own pace; none can hold it up.
type Run struct {
	ID, ConversationID string

	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	events  []Event // the last ones, at most maxEvents; IDs without gaps
	next    int64   // ID of the next event
	closed  bool
	changed chan struct{} // closed, and replaced, at every event
	record  Record
	text    strings.Builder
}

// GapError tells a reader that the events after the one it has seen are no
// longer kept: Next is the first that is.
type GapError struct{ After, Next int64 }

func (e *GapError) Error() string {
	return fmt.Sprintf("events %d to %d are no longer kept", e.After+1, e.Next-1)
}

func newRun(p plan, cancel context.CancelFunc) *Run {
	return &Run{
		ID: p.run, ConversationID: p.conversation,
		cancel: cancel, ended: make(chan struct{}),
		next: 1, changed: make(chan struct{}),
		record: Record{
			RunID: p.run, ConversationID: p.conversation, Question: p.text, Collection: p.collection,
			Citations: []retrieve.Citation{}, Passages: []retrieve.Passage{}, Report: Report{Memory: p.memory},
		},
	}
}

// Next returns the events after the given ID, at least one, waiting for it
// until ctx ends. Errors: io.EOF after the last event, *GapError when the
// reader is too late, or ctx's own.
func (r *Run) Next(ctx context.Context, after int64) ([]Event, error) {
	for {
		r.mu.Lock()
		first, changed, closed := r.next-int64(len(r.events)), r.changed, r.closed
		switch {
		case after+1 < first:
			r.mu.Unlock()
			return nil, &GapError{after, first}
		case after+1 < r.next:
			events := slices.Clone(r.events[after+1-first:])
			r.mu.Unlock()
			return events, nil
		}
		r.mu.Unlock()
		if closed {
			return nil, io.EOF
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Cancel stops the run between two tokens or two blocks of the prompt; its
// stream then ends as every other one does. Cancelling twice is the same.
func (r *Run) Cancel() { r.cancel() }

// Ended is closed after the last event, when the run has been stored.
func (r *Run) Ended() <-chan struct{} { return r.ended }

// Record is the run so far; its FinishReason is empty until it has ended.
func (r *Run) Record() Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	record := r.record
	record.Answer = r.text.String()
	record.Citations = slices.Clone(record.Citations)
	return record
}

// emit appends one event and what it means to the record: the stream and the
// stored record are the same because both are made here.
func (r *Run) emit(name string, data any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch d := data.(type) {
	case Retrieval:
		r.record.Passages, r.record.Given, r.record.SearchText = d.Passages, d.Given, d.SearchText
		r.record.Timing.RetrievalMS, r.record.Memory = d.RetrievalMS, d.Memory
	case Delta:
		r.text.WriteString(d.Text)
	case retrieve.Citation:
		r.record.Citations = append(r.record.Citations, d)
	case Report:
		r.record.Report = d
	}
	if len(r.events) == maxEvents {
		r.events = slices.Delete(r.events, 0, maxEvents/4)
	}
	r.events = append(r.events, Event{r.next, name, data})
	r.next++
	close(r.changed)
	r.changed = make(chan struct{})
}

// finish sets how the run ended, before it is stored.
func (r *Run) finish(reason string, failure *Failure) Record {
	r.mu.Lock()
	r.record.FinishReason, r.record.Error = reason, failure
	r.mu.Unlock()
	return r.Record()
}

// close ends the stream after the last event.
func (r *Run) close() {
	r.mu.Lock()
	r.closed = true
	close(r.changed)
	r.mu.Unlock()
	close(r.ended)
}
