package answer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"lessrag/decode"
	"lessrag/retrieve"
)

func runForTest() *Run {
	return newRun(plan{run: "r", conversation: "c", text: "why?", collection: "facts"}, func() {})
}

func TestRunTellsEveryReaderTheSame(t *testing.T) {
	const deltas = 500
	r := runForTest()
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			var text strings.Builder
			for after := int64(0); ; {
				events, err := r.Next(context.Background(), after)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range events {
					if e.ID != after+1 {
						t.Errorf("event %d after %d", e.ID, after)
					}
					after = e.ID
					if d, ok := e.Data.(Delta); ok {
						text.WriteString(d.Text)
					}
				}
			}
			if text.String() != r.Record().Answer {
				t.Errorf("read %q, recorded %q", text.String(), r.Record().Answer)
			}
		})
	}
	r.emit(EventRetrieval, Retrieval{RunID: "r"})
	for i := range deltas {
		r.emit(EventDelta, Delta{fmt.Sprint(i, " ")})
	}
	r.emit(EventDone, Done{FinishStop})
	r.close()
	readers.Wait()
}

func TestRunKeepsABoundedNumberOfEvents(t *testing.T) {
	r := runForTest()
	for range 3 * maxEvents {
		r.emit(EventDelta, Delta{"x"})
		if len(r.events) > maxEvents {
			t.Fatalf("%d events are kept", len(r.events))
		}
	}
	_, err := r.Next(context.Background(), 5)
	var gap *GapError
	if !errors.As(err, &gap) || gap.After != 5 || gap.Next <= 6 {
		t.Fatalf("a late reader got %v", err)
	}
	events, err := r.Next(context.Background(), gap.Next-1)
	if err != nil || events[0].ID != gap.Next || events[len(events)-1].ID != 3*maxEvents {
		t.Fatalf("after the gap: %v", err)
	}
	if got := len(r.Record().Answer); got != 3*maxEvents {
		t.Errorf("the record has %d of %d letters", got, 3*maxEvents)
	}
}

func TestRunNextWaits(t *testing.T) {
	r := runForTest()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Next(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("without events, and given up: %v", err)
	}
	r.emit(EventDelta, Delta{"a"})
	if events, err := r.Next(ctx, 0); err != nil || len(events) != 1 {
		t.Errorf("what is there comes without waiting: %v %v", events, err)
	}
	if _, err := r.Next(ctx, 99); !errors.Is(err, context.Canceled) {
		t.Errorf("after an event that is yet to come: %v", err)
	}
	r.close()
	if _, err := r.Next(context.Background(), 99); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestRecordIsWhatWasStreamed(t *testing.T) {
	r := runForTest()
	cite := retrieve.Citation{Marker: 1, PassageID: 7, Start: 0, End: 2}
	report := Report{Usage: Usage{PromptTokens: 3, CompletionTokens: 4}, Memory: Memory{Cache: "sinks", HeldBytes: 9, DroppedPassages: 2}}
	r.emit(EventRetrieval, Retrieval{RunID: "r", Passages: []retrieve.Passage{{ID: 7}}, RetrievalMS: 5, Memory: Memory{BudgetBytes: 8}})
	if m := r.Record(); m.Timing.RetrievalMS != 5 || m.Memory.BudgetBytes != 8 || m.FinishReason != "" {
		t.Errorf("while it runs: %+v", m)
	}
	r.emit(EventDelta, Delta{"He"})
	before := r.Record()
	r.emit(EventCitation, cite)
	r.emit(EventDelta, Delta{"y."})
	r.emit(EventUsage, report)
	got := r.finish(FinishStop, nil)
	want := Record{RunID: "r", ConversationID: "c", Question: "why?", Collection: "facts", Answer: "Hey.",
		Citations: []retrieve.Citation{cite}, Passages: []retrieve.Passage{{ID: 7}}, Report: report, FinishReason: FinishStop}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("recorded %+v, want %+v", got, want)
	}
	if before.Answer != "He" || len(before.Citations) != 0 {
		t.Errorf("an earlier record has changed: %+v", before)
	}
}

func noQuote(string) (retrieve.Citation, bool) { return retrieve.Citation{}, false }

// An answer that no passage backs is given a quote; a cancelled one, or one with a citation, is not.
func TestReadQuotes(t *testing.T) {
	backed := []retrieve.Passage{{ID: 7, Text: "The lamp of Velm is blue."}}
	for _, c := range []struct {
		passages []retrieve.Passage
		reason   string
		want     string
	}{
		{nil, decode.FinishStop, retrieve.Extracted},
		{backed, decode.FinishStop, retrieve.Matched},
		{nil, decode.FinishCancelled, ""},
	} {
		r := runForTest()
		chunks := make(chan decode.Chunk, 1)
		chunks <- decode.Chunk{Text: "The lamp of Velm is blue.", Result: &decode.Result{FinishReason: c.reason}}
		close(chunks)
		quote := func(answer string) (retrieve.Citation, bool) {
			return retrieve.Citation{Start: len(answer), Origin: retrieve.Extracted}, true
		}
		if _, err := read(r, chunks, func() {}, c.passages, quote, Report{}, time.Now()); err != nil {
			t.Fatal(err)
		}
		origin := ""
		if cites := r.Record().Citations; len(cites) == 1 {
			origin = cites[0].Origin
		}
		if origin != c.want {
			t.Errorf("%s over %d passages: cited as %q, want %q", c.reason, len(c.passages), origin, c.want)
		}
	}
}

// A reader that goes round in circles is stopped, and its second time round is not shown.
func TestReadStopsARepeatingReader(t *testing.T) {
	r := runForTest()
	chunks := make(chan decode.Chunk)
	stopped := make(chan struct{})
	go func() {
		defer close(chunks)
		for {
			select {
			case chunks <- decode.Chunk{Text: "The lamp of Velm is blue. "}:
			case <-stopped:
				chunks <- decode.Chunk{Text: "The lamp", Result: &decode.Result{FinishReason: decode.FinishCancelled, CompletionTokens: 9}}
				return
			}
		}
	}()
	quote := func(answer string) (retrieve.Citation, bool) {
		return retrieve.Citation{Start: len(answer), Origin: retrieve.Extracted}, true
	}
	reason, err := read(r, chunks, sync.OnceFunc(func() { close(stopped) }), nil, quote, Report{}, time.Now())
	if reason != FinishStop || err != nil {
		t.Errorf("ended as %q, %v", reason, err)
	}
	if record := r.Record(); record.Answer != "The lamp of Velm is blue. " || record.Usage.CompletionTokens != 9 || len(record.Citations) != 1 {
		t.Errorf("answered %q with %+v, citing %+v", record.Answer, record.Usage, record.Citations)
	}
}

// What the reader says is shown whole, however it is cut into chunks.
func TestReadShowsEverything(t *testing.T) {
	const said = "The lamp is blue. The lamp is blue and bright. Yes. Yes. It is"
	for size := 1; size <= len(said); size++ {
		r := runForTest()
		chunks := make(chan decode.Chunk, len(said)+1)
		for rest := said; rest != ""; {
			n := min(size, len(rest))
			chunks <- decode.Chunk{Text: rest[:n]}
			rest = rest[n:]
		}
		chunks <- decode.Chunk{Result: &decode.Result{FinishReason: decode.FinishLength}}
		close(chunks)
		reason, err := read(r, chunks, func() { t.Error("stopped") }, nil, noQuote, Report{}, time.Now())
		if got := r.Record().Answer; got != said || reason != FinishLength || err != nil {
			t.Fatalf("in chunks of %d: %q, %s, %v", size, got, reason, err)
		}
	}
}
