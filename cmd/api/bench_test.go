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

	for _, m := range session.Measured {
		for _, run := range m.Timings {
			if probed := run.Reads[0] > 0 && run.Reads[1] > 0; probed != (m.Work.Busy == 0) {
				t.Errorf("%s: probes of %v GB/s", m.Work, run.Reads)
			}
		}
	}

	memory := runJSON[bench.Results](t, data, "bench", "--memory", "--caches", "sinks@64", "--json").Memory
	if memory == nil || memory.Sequences != 4 || !(memory.Unexplained < memory.Resident) || memory.Caches <= 0 || memory.Scratch <= 0 {
		t.Errorf("memory %+v", memory)
	}
	steps := runJSON[bench.Results](t, data, "bench", "--steps", "--caches", "full", "--depths", "0", "--batches", "1,2", "--tokens", "64", "--json").Steps
	if len(steps) != 2 || steps[0].Batch != 1 || steps[1].Batch != 2 || !(steps[0].Ms["matmul"] > 0) || !(steps[0].Total() > steps[0].Ms["matmul"]) {
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

// Every page of a directory comes in, each content once; handing them in again embeds nothing.
func TestBenchDocuments(t *testing.T) {
	pages := t.TempDir()
	for name, text := range map[string]string{"a.html": "lantern", "b.html": "bridge", "c.html": "tower", "copy.html": "tower", "d.txt": "no page"} {
		page := "<html><body><h1>" + text + "</h1><p>" + strings.Repeat("The "+text+" stands by the harbour. ", 40) + "</body></html>"
		if err := os.WriteFile(filepath.Join(pages, name), []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := runJSON[bench.Results](t, t.TempDir(), "bench", "--documents", pages, "--pages", "0", "--slice", "2", "--json").Documents
	if len(all) != 1 {
		t.Fatalf("%d results", len(all))
	}
	d := all[0]
	if d.Documents != 3 || d.Ready != 3 || d.Failed != 0 || len(d.Slices) != 2 || d.Chunks < 6 || d.Bytes < 3000 {
		t.Errorf("got %+v", d)
	}
	if !(d.Embedding > 0) || !(d.Embedding <= d.Seconds) || d.AgainEmbed != 0 || !(d.Again > 0) {
		t.Errorf("%v s of %v s in the embedder, again %v s of %v s", d.Embedding, d.Seconds, d.AgainEmbed, d.Again)
	}
	for want, args := range map[string][]string{
		"make fetch-eval": {"--documents", pages, "--pages", "9"},
		"--peer":          {"--documents", pages, "--peer", "onnxruntime"},
		"--slice":         {"--documents", pages, "--slice", "0"},
	} {
		if out := runAPI(t, t.TempDir(), append([]string{"bench"}, args...)...); out.code != exitUsage || !strings.Contains(out.stderr, want) {
			t.Errorf("%v: exit code %d, %q", args, out.code, out.stderr)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for want, args := range map[string][]string{
		"bin/api bench --depths 0":                   {"/somewhere/api", "bench", "--depths", "0", "--json"},
		"bin/api bench --python VENV/bin/python":     {"api", "bench", "--json", "--python", "/home/me/python"},
		"bin/api bench --python=VENV/bin/python --x": {"api", "bench", "--python=/home/me/python", "--x"},
	} {
		if got := commandLine(args); got != want {
			t.Errorf("%v: %q, want %q", args, got, want)
		}
	}
}
