package main

import (
	"strings"
	"testing"
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
