package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lessrag/cmd/api/bench"
)

// A short session: every work has a figure, and pages are written from what it
// printed. How high the figures are is not for a test.
func TestBench(t *testing.T) {
	data := t.TempDir()
	session := runJSON[bench.Results](t, data, "bench", "--caches", "full,sinks@64", "--depths", "0,100", "--batches", "1,2", "--tokens", "3", "--runs", "1", "--busy", "1", "--json")
	works := map[string]int{}
	for _, row := range session.Rows {
		if !(row.Value > 0) {
			t.Errorf("%s at depth %d with %s: %v %s", row.Work, row.Depth, row.CacheText(), row.Value, row.Unit)
		}
		works[row.Work]++
	}
	if works["prefill"] != 2 || works["ttft"] != 2 || works["decode"] != 5 || works["kept"] != 1 {
		t.Errorf("works %v", works)
	}
	if session.Machine.Threads < 1 || !(session.Limits.ReadGBs > 0) || session.Model.File == "" || !(session.LoadMs > 0) {
		t.Errorf("%+v, %+v, %+v, loaded in %v ms", session.Machine, session.Limits, session.Model, session.LoadMs)
	}

	memory := runJSON[bench.Results](t, data, "bench", "--memory", "--caches", "sinks@64", "--json").Memory
	if memory == nil || memory.Sequences != 4 || !(memory.Unexplained < memory.Resident) || memory.Caches <= 0 || memory.Scratch <= 0 {
		t.Errorf("memory %+v", memory)
	}
	steps := runJSON[bench.Results](t, data, "bench", "--steps", "--caches", "full", "--depths", "0", "--tokens", "4", "--json").Steps
	if len(steps) != 1 || !(steps[0].Ms["matmul"] > 0) || !(steps[0].Total() > steps[0].Ms["matmul"]) {
		t.Errorf("steps %+v", steps)
	}

	accuracy := runJSON[bench.Results](t, data, "bench", "--accuracy", "examples/README.md", "--json").Accuracy
	if accuracy == nil || accuracy.Tokens < 100 || !(accuracy.Float32 > 1) || !(accuracy.Excess > -0.05 && accuracy.Excess < 0.05) {
		t.Errorf("accuracy %+v", accuracy)
	}

	file, docs := filepath.Join(data, "session.json"), t.TempDir()
	if err := os.WriteFile(file, []byte(runAPI(t, data, "bench", "--caches", "full", "--depths", "0", "--batches", "1", "--tokens", "3", "--runs", "1", "--json").stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := runAPI(t, data, "bench", "--from", file, "--docs", docs); out.code != 0 || !strings.Contains(out.stdout, "decode") {
		t.Errorf("joining: exit code %d, %s%s", out.code, out.stdout, out.stderr)
	}
	if _, err := os.Stat(filepath.Join(docs, "benchmarks.svg")); err != nil {
		t.Error(err)
	}
}

func TestBenchEmbedding(t *testing.T) {
	texts := runJSON[bench.Results](t, t.TempDir(), "bench", "--embedding", "--runs", "1", "--json").Texts
	if texts == nil || texts.Tokens != 256 || !(texts.Value > 0) || texts.PeerValue != 0 {
		t.Errorf("embedding %+v", texts)
	}
}

// A peer that nobody has built is refused with what to do about it.
func TestBenchWithoutPeer(t *testing.T) {
	out := runAPI(t, t.TempDir(), "bench", "--peer", "llama.cpp", "--peer-files", filepath.Join(t.TempDir(), "none.gguf"), "--depths", "0", "--runs", "1", "--tokens", "2")
	if out.code != exitFailed || !strings.Contains(out.stderr, "make peer") || out.stdout != "" {
		t.Errorf("exit code %d, %q, %q", out.code, out.stdout, out.stderr)
	}
}
