package main

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"lessrag/lesskernels/cuda/device"
	"lessrag/lesskernels/cuda/ptx"
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
	if _, err := device.Count(); err == nil {
		t.Skip("there is a card")
	}
	out := runAPI(t, t.TempDir(), "generate", "x", "--device", "cuda")
	if out.code != exitUsage || !strings.Contains(out.stderr, "--device cuda: no CUDA device: ") || !strings.Contains(out.stderr, "--device cpu") || out.stdout != "" {
		t.Errorf("exit code %d, %q", out.code, out.stderr)
	}
	out = runAPI(t, t.TempDir(), "generate", "x", "--device", "cuda:0,0")
	if out.code != exitUsage || !strings.Contains(out.stderr, "--device") || !strings.Contains(out.stderr, "cuda:0,2") {
		t.Errorf("exit code %d, %q", out.code, out.stderr)
	}
}

func TestDeviceFlag(t *testing.T) {
	for text, want := range map[string]deviceFlag{"auto": {}, "cpu": {}, "cuda": {cuda: true}, "cuda:3": {true, []int{3}}, "cuda:2,0": {true, []int{2, 0}}} {
		var got deviceFlag
		if err := got.UnmarshalText([]byte(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if cards, err := got.open(1); !want.cuda && (cards != nil || err != nil) {
			t.Errorf("%s: %v, %v", text, cards, err)
		}
	}
	for _, text := range []string{"", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:1,1", "cuda:0,x"} {
		if err := new(deviceFlag).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// Every card has a line of its own, that of one that does not work too.
func TestDoctorCards(t *testing.T) {
	dead := ptx.New(1 << 20)
	dead.Lose(errors.New("the bus fell silent"))
	for card, want := range []string{"card 0: PTX interpreter", "card 1 does not answer: ", "card 2: too old"} {
		f := checkGPU(card, func(card int) (device.Device, error) {
			return []device.Device{ptx.New(1 << 20), dead, nil}[card], []error{nil, nil, errors.New("too old")}[card]
		})
		if !strings.Contains(f.Detail, want) || (f.Verdict == good) != (card == 0) || (f.Fix == "") != (card == 0) {
			t.Errorf("%+v, want %q", f, want)
		}
	}
}
