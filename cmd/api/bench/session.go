package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"
)

// Session times works in turn, so that a machine that slows down slows all of
// them and every contender alike.
type Session struct {
	Works      []Work
	Contenders []Contender // ours first; where caches are all empty, only the first of ours runs
	Vocabulary int         // prompts are of tokens below it
	Runs       int
	Patience   int // a run beside which other programs took much of the machine is repeated so often
	Seed       uint64
	Progress   io.Writer
	Probe      func() float64 // GB/s that memory gives now, asked beside every run of ours; nil: nobody asks
}

// Measure runs every work of every contender Runs times, one right after the other
// and never at the same time. No two runs share a prompt: our caches are contenders
// of one engine, which would know the prompt of the one before.
func (s *Session) Measure(ctx context.Context) ([]Measured, error) {
	rounds := make([][]Measured, len(s.Works))
	for i, w := range s.Works {
		for j, c := range s.Contenders {
			if j == 0 || c.Peer || w.Batch == 1 && w.Busy == 0 {
				rounds[i] = append(rounds[i], Measured{Contender: c, Work: w})
			}
		}
	}
	random := rand.New(rand.NewPCG(s.Seed, 0))
	for range s.Runs {
		for i, w := range s.Works {
			if err := s.round(ctx, random, w, rounds[i]); err != nil {
				return nil, err
			}
		}
	}
	return slices.Concat(rounds...), nil
}

// round runs one work once by every contender.
func (s *Session) round(ctx context.Context, random *rand.Rand, w Work, measured []Measured) error {
	prompts := func() [][]int32 {
		p := make([][]int32, w.Batch)
		for i := range p {
			p[i] = words(random, w.Prompt, s.Vocabulary)
		}
		return p
	}
	stop, err := keepBusy(ctx, w.Busy)
	if err != nil {
		return err
	}
	defer stop()
	for i := range measured {
		m := &measured[i]
		t, err := s.run(ctx, m.Contender, w, prompts())
		for again := 0; err == nil && t.Others > loudest && again < s.Patience; again++ {
			fmt.Fprintf(s.Progress, "%s, %s: others took %.0f%% of the machine, once more\n", m.Contender.Name, w, 100*t.Others)
			t, err = s.run(ctx, m.Contender, w, prompts())
		}
		if err != nil {
			return fmt.Errorf("%s, %s: %w", m.Contender.Name, w, err)
		}
		m.Timings = append(m.Timings, t)
		fmt.Fprintf(s.Progress, "%s, %s: %.3f s, then %.1f tokens/s\n", m.Contender.Name, w, t.First.Seconds(), w.Decode(t))
	}
	return nil
}

// run does a work once, looks at what else the machine did meanwhile, and probes what
// memory gives before and behind it.
func (s *Session) run(ctx context.Context, c Contender, w Work, prompts [][]int32) (Timing, error) {
	probe := s.Probe
	if probe == nil || c.Peer || w.Busy > 0 { // no share of theirs is told
		probe = func() float64 { return 0 }
	}
	before := probe()
	used, machine, began := c.Used(), readProcessors(), time.Now()
	t, err := c.Run(ctx, prompts, w.Tokens)
	if err != nil {
		return t, err
	}
	if t.First <= 0 || t.Decode <= 0 && w.Tokens > 1 {
		return t, fmt.Errorf("took %v and %v, which cannot be", t.First, t.Decode)
	}
	if w.Busy == 0 { // else the others are ours
		t.Others = readProcessors().share(machine, c.Used()-used, time.Since(began))
	}
	t.Reads = [2]float64{before, probe()}
	return t, nil
}
