package main

import (
	"errors"
	"strings"
	"testing"

	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda/device"
)

// With a card or without, one line says which, and on what is decoded.
func TestCheckGPU(t *testing.T) {
	f := checkGPU()
	if f.Check != "gpu" || f.Verdict != good || !strings.HasSuffix(f.Detail, "on the CPU") || strings.Contains(f.Detail, "\n") {
		t.Errorf("%+v", f)
	}
	if card := strings.Contains(f.Detail, "compute "); card == strings.Contains(f.Detail, "no CUDA device") {
		t.Errorf("neither a card nor the reason why there is none: %s", f.Detail)
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
