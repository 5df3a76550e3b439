package bench

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWorks(t *testing.T) {
	got := Works([]int{0, 512, 9000}, []int{1, 4}, 64, 2, 8192)
	want := []Work{
		{Prompt: 1, Tokens: 64, Batch: 1}, {Prompt: 512, Tokens: 64, Batch: 1}, {Prompt: 8192 - 64, Tokens: 64, Batch: 1},
		{Prompt: 1, Tokens: 64, Batch: 4}, {Prompt: 1, Tokens: 64, Batch: 1, Busy: 2},
	}
	if !slices.Equal(got, want) {
		t.Errorf("works are %v, want %v", got, want)
	}
}

func TestRates(t *testing.T) {
	w := Work{Prompt: 500, Tokens: 11, Batch: 4}
	run := Timing{First: 2 * time.Second, Decode: 500 * time.Millisecond}
	if got := w.Prefill(run); got != 250 {
		t.Errorf("prefill of %v tokens/s, want 250", got)
	}
	if got := w.Decode(run); got != 80 {
		t.Errorf("decoding of %v tokens/s, want 80: 4 times 10 tokens in half a second", got)
	}
}

// recorder is a Runner that keeps what it was asked.
type recorder struct {
	name  string
	calls *[]call
	take  time.Duration
	fail  error
}

type call struct {
	name    string
	prompts [][]int32
	tokens  int
}

func (r recorder) Run(_ context.Context, prompts [][]int32, tokens int) (Timing, error) {
	*r.calls = append(*r.calls, call{r.name, prompts, tokens})
	return Timing{First: r.take, Decode: r.take}, r.fail
}

// Contenders take turns at every work, and no prompt comes twice: an engine may
// remember it.
func TestSessionTakesTurns(t *testing.T) {
	var calls []call
	s := Session{
		Works: []Work{{Prompt: 3, Tokens: 2, Batch: 1}, {Prompt: 1, Tokens: 2, Batch: 2}},
		Contenders: []Contender{
			{Name: "full", Runner: recorder{"full", &calls, 1, nil}},
			{Name: "sinks", Runner: recorder{"sinks", &calls, 1, nil}},
			{Name: "peer", Peer: true, Runner: recorder{"peer", &calls, 1, nil}},
		},
		Vocabulary: 1 << 30, Runs: 2, Seed: 3, Progress: io.Discard,
	}
	measured, err := s.Measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, c := range calls {
		order = append(order, c.name)
	}
	round := []string{"full", "sinks", "peer", "full", "peer"} // a second cache adds nothing to a batch of empty ones
	if want := slices.Concat(round, round); !slices.Equal(order, want) {
		t.Fatalf("order %v, want %v", order, want)
	}
	if len(calls[0].prompts[0]) != 3 || len(calls[3].prompts) != 2 {
		t.Error("prompts of another length or number than the work's")
	}
	seen := map[int32]bool{}
	for _, c := range calls {
		for _, prompt := range c.prompts {
			if seen[prompt[0]] {
				t.Error("a prompt came twice")
			}
			seen[prompt[0]] = true
		}
	}
	if len(measured) != 5 {
		t.Fatalf("%d works measured, want 5", len(measured))
	}
	for _, m := range measured {
		if len(m.Timings) != 2 {
			t.Errorf("%s, %s: %d runs", m.Contender.Name, m.Work, len(m.Timings))
		}
	}
}

// Every run of ours has a probe before it and one behind it; what has no share has none.
func TestSessionProbes(t *testing.T) {
	var calls []call
	probes := 0.0
	s := Session{
		Works: []Work{{Prompt: 1, Tokens: 2, Batch: 1}, {Prompt: 1, Tokens: 2, Batch: 1, Busy: 1}},
		Contenders: []Contender{
			{Name: "full", Runner: recorder{"full", &calls, 1, nil}},
			{Name: "peer", Peer: true, Runner: recorder{"peer", &calls, 1, nil}},
		},
		Vocabulary: 9, Runs: 2, Progress: io.Discard,
		Probe: func() float64 {
			if len(calls) != map[float64]int{0: 0, 1: 1, 2: 4, 3: 5}[probes] { // a run of ours, and then three
				t.Errorf("probe %v comes after %d runs", probes, len(calls))
			}
			probes++
			return probes
		},
	}
	measured, err := s.Measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range measured {
		for i, timing := range m.Timings {
			want := [2]float64{float64(2*i + 1), float64(2*i + 2)}
			if m.Contender.Peer || m.Work.Busy > 0 {
				want = [2]float64{}
			}
			if timing.Reads != want {
				t.Errorf("%s, %s, run %d: probes %v, want %v", m.Contender.Name, m.Work, i, timing.Reads, want)
			}
		}
	}
}

func (r recorder) Used() time.Duration { return 0 }

func TestSessionNamesWhatFailed(t *testing.T) {
	broken := errors.New("broken")
	for name, runner := range map[string]recorder{"an error": {take: 1, fail: broken}, "no time": {}} {
		runner.calls = new([]call)
		s := Session{Works: []Work{{Prompt: 7, Tokens: 2, Batch: 1}}, Contenders: []Contender{{Name: "ours, full", Runner: runner}}, Vocabulary: 9, Runs: 1, Progress: io.Discard}
		if _, err := s.Measure(t.Context()); err == nil || !strings.Contains(err.Error(), "ours, full") || !strings.Contains(err.Error(), "prompt of 7") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeepBusyEnds(t *testing.T) {
	stop, err := keepBusy(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	stop() // returns when the processes have ended, or the test times out
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := keepBusy(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestOthers(t *testing.T) {
	before, err := processorsOf("cpu  100 0 50 1000 20 0 0 0 0 0\ncpu0 1 1\n")
	if err != nil {
		t.Fatal(err)
	}
	after, err := processorsOf("cpu  240 0 70 1040 20 0 0 0 0 0\n")
	if err != nil {
		t.Fatal(err)
	}
	// Of 2 s of one processor 1.6 were busy, 1.2 of them by us.
	if got := after.share(before, 1200*time.Millisecond, time.Second); !(got > 0.199 && got < 0.201) {
		t.Errorf("others took %v, want 0.2", got)
	}
	if got := after.share(before, time.Minute, time.Second); got != 0 {
		t.Errorf("beside more than there was others took %v", got)
	}
	if got := (processors{}).share(processors{}, 0, time.Second); got != 0 {
		t.Errorf("where nothing can be read others took %v", got)
	}
	for _, bad := range []string{"", "intr 5 6 7 8 9 1 2 3 4", "cpu 1 2 3 4 5 6 7 x"} {
		if _, err := processorsOf(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	if got := usedOf("12 (a) name) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0"); got != 2*time.Second {
		t.Errorf("a process used %v, want 2 s", got)
	}
	if got := usedOf("12 (cut"); got != 0 {
		t.Errorf("a line cut short gives %v", got)
	}
}

func TestQuietest(t *testing.T) {
	calm, loud := Timing{First: 1}, Timing{First: 2, Others: 0.5}
	if got := quietest([]Timing{loud, calm, loud}); len(got) != 1 || got[0] != calm {
		t.Errorf("quiet runs %v", got)
	}
	if got := quietest([]Timing{loud, loud}); len(got) != 2 {
		t.Errorf("without a quiet run %v are left", got)
	}
}
