package main

import (
	"errors"
	"strings"
	"testing"

	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda/device"
)

// The memory of the reader is weights, caches and scratch, each named and added up.
func TestResident(t *testing.T) {
	r := resident{cache: "vote 10%", weights: 100 << 20, cacheBytes: 20 << 20, staging: 6 << 20, scratch: 4 << 20, slots: 10}
	for _, c := range []struct {
		slots, available int64
		verdict, want    string
	}{
		{10, 1 << 30, good, "weights 100.0 MiB + 10 × 20.0 MiB (cache vote 10%) + staging 6.0 MiB + scratch 4.0 MiB = 310.0 MiB at most"},
		{10, 0, good, "310.0 MiB"}, // free memory is not known everywhere
		{10, 310 << 20, good, "310.0 MiB"},
		{10, 310<<20 - 1, warning, "310.0 MiB"},
		{0, 1 << 30, failure, "0 × 20.0 MiB"},
	} {
		r.slots = c.slots
		f := r.finding(c.available)
		if f.Verdict != c.verdict || !strings.Contains(f.Detail, c.want) || (f.Fix == "") != (c.verdict == good) {
			t.Errorf("%d slots, %d bytes free: %+v, want %s with %q", c.slots, c.available, f, c.verdict, c.want)
		}
	}
}

// Without a card, asking for one is refused with the reason.
func TestNoCard(t *testing.T) {
	d, err := device.Open()
	if err == nil {
		d.Close()
		t.Skip("there is a card")
	}
	out := runAPI(t, t.TempDir(), "generate", "x", "--device", "cuda")
	if out.code != exitUsage || !strings.Contains(out.stderr, "--device cuda: no CUDA device: ") || !strings.Contains(out.stderr, "--device cpu") || out.stdout != "" {
		t.Errorf("exit code %d, %q", out.code, out.stderr)
	}
	for _, flag := range []string{"auto", "cpu"} {
		if d, err := (&globals{Device: flag}).openDevice(); d != nil || err != nil {
			t.Errorf("--device %s: %v, %v", flag, d, err)
		}
	}
}

// On a card no passage is put into a prompt: it would have to be taken from the CPU.
func TestNoBlendingOnCard(t *testing.T) {
	g := &globals{Device: "cuda", Data: t.TempDir()}
	if store, err := (blendFlags{Blend: "auto", Passages: "1MiB"}).store(g, cacheSpec(t, "sinks")); store != nil || err != nil {
		t.Errorf("%v, %v", store, err)
	}
	if _, err := (blendFlags{Blend: "on", Passages: "1MiB"}).store(g, cacheSpec(t, "sinks")); !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), "--blend on") {
		t.Errorf("%v", err)
	}
	if share, err := (blendFlags{Blend: "on"}).share(decode.Info{Math: "bf16"}); share != 0 || err != nil {
		t.Errorf("%v, %v", share, err)
	}
}

func cacheSpec(t *testing.T, text string) cache.Spec {
	t.Helper()
	spec, err := cache.ParseSpec(text)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
