package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"lessrag/decode"
	"lessrag/decode/cache"
)

// Memory is what the process holds while sequences run whose caches are full.
type Memory struct {
	Cache       string `json:"cache"`
	Budget      string `json:"budget"`
	Sequences   int    `json:"sequences"`
	Resident    int64  `json:"resident_bytes"`
	Weights     int64  `json:"weight_bytes"`
	Caches      int64  `json:"cache_bytes"` // the plans of all sequences, exactly
	Kept        int64  `json:"kept_bytes"`  // beginnings of prompts that later ones may share
	Scratch     int64  `json:"scratch_bytes"`
	Unexplained int64  `json:"unexplained_bytes"`
}

// MeasureMemory fills the caches of several sequences and looks at the process
// while all of them decode. It must come before whatever else would leave memory
// behind.
func MeasureMemory(ctx context.Context, engine *decode.Engine, spec cache.Spec, budget cache.Budget, sequences int) (*Memory, error) {
	plan, err := engine.Plan(spec, budget)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the answers are wanted no longer than to be looked at
	info := engine.Info()
	length := min(2*plan.Keep, info.Context-heldAnswer-1)
	prompt := make([]int32, length)
	var streams []<-chan decode.Chunk
	for i := range sequences {
		for at := range prompt {
			prompt[at] = int32((at*131 + i*17) % info.Vocab)
		}
		stream, err := engine.Submit(ctx, decode.Request{Prompt: prompt, Cache: spec, Budget: budget, MaxTokens: heldAnswer, IgnoreEnd: true})
		if err != nil {
			return nil, err
		}
		streams = append(streams, stream)
	}
	for _, stream := range streams {
		if err := untilText(stream); err != nil {
			return nil, err
		}
	}
	stats := engine.Stats()
	if stats.Running != sequences {
		return nil, fmt.Errorf("%d of %d sequences run: give them more cache memory", stats.Running, sequences)
	}
	m := &Memory{Cache: spec.String(), Budget: budget.String(), Sequences: sequences,
		Weights: info.WeightBytes, Caches: stats.Promised, Kept: stats.Kept, Scratch: info.ScratchBytes + stats.Staging}
	if m.Resident, err = resident(); err != nil {
		return nil, err
	}
	m.Unexplained = m.Resident - m.Weights - m.Caches - m.Kept - m.Scratch
	return m, nil
}

// heldAnswer is more tokens than the other sequences take to begin.
const heldAnswer = 1024

// untilText waits for an answer's first text.
func untilText(stream <-chan decode.Chunk) error {
	for chunk := range stream {
		if chunk.Err != nil {
			return chunk.Err
		}
		if chunk.Text != "" {
			return nil
		}
	}
	return errors.New("the answer ended before it began")
}

// resident is the memory of this process that is in use, in bytes.
func resident() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("reading the resident memory: %w", err)
	}
	return residentOf(string(status))
}

func residentOf(status string) (int64, error) {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading the resident memory: %w", err)
			}
			return kib << 10, nil
		}
	}
	return 0, errors.New("reading the resident memory: /proc/self/status has no VmRSS")
}
