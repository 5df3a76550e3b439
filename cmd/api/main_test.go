package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lessrag/decode"
	"lessrag/lesskernels"
)

// The tests of this package run the real binary on the real assets.
var apiBinary, root string

func TestMain(m *testing.M) {
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (int, error) {
	var err error
	if root, err = filepath.Abs("../.."); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "lessrag-bin")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	apiBinary = filepath.Join(dir, "api")
	if out, err := exec.Command("go", "build", "-o", apiBinary, ".").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building the binary: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// assetsDir is where `make fetch` has put the models and Postgres.
func assetsDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("LESSRAG_ASSETS")
	if dir == "" {
		dir = filepath.Join(root, "assets")
	}
	if _, err := os.Stat(filepath.Join(dir, defaultReader)); err != nil {
		t.Fatalf("%v: run make fetch", err)
	}
	return dir
}

// output is what one run of the binary left.
type output struct {
	stdout, stderr string
	code           int
}

// command prepares a run of the binary on a data directory.
func command(ctx context.Context, t *testing.T, data string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, apiBinary, args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "LESSRAG_ASSETS="+assetsDir(t), "LESSRAG_DATA="+data)
	return cmd
}

// runAPI runs the binary to its end.
func runAPI(t *testing.T, data string, args ...string) output {
	t.Helper()
	return runWithin(t, 3*time.Minute, data, args...)
}

func runWithin(t *testing.T, limit time.Duration, data string, args ...string) output {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := command(ctx, t, data, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("api %s: %v", strings.Join(args, " "), err)
	}
	return output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// TestSuited: the default cache of answers is one that the reader can run; others are not touched.
func TestSuited(t *testing.T) {
	maps := &lesskernels.Header{}
	for _, c := range []struct {
		flags answerCacheFlags
		info  decode.Info
		want  answerCacheFlags
	}{
		{answerCacheFlags{"", ""}, decode.Info{Math: "int8", Maps: maps}, answerCacheFlags{answerCache, ""}},
		{answerCacheFlags{"", "5%"}, decode.Info{Math: "int8"}, answerCacheFlags{"vote", "5%"}},
		{answerCacheFlags{"", "5%"}, decode.Info{Math: "bf16", Maps: maps}, answerCacheFlags{answerCache, "5%"}},
		{answerCacheFlags{answerCache, ""}, decode.Info{Math: "int8"}, answerCacheFlags{answerCache, ""}},
		{answerCacheFlags{"h2o+less", ""}, decode.Info{Math: "int8"}, answerCacheFlags{"h2o+less", ""}},
		{answerCacheFlags{"vote", "10%"}, decode.Info{Math: "bf16"}, answerCacheFlags{"vote", "10%"}},
	} {
		if got := c.flags.suited(c.info); got != c.want {
			t.Errorf("%+v, %s: %+v, want %+v", c.flags, c.info.Math, got, c.want)
		}
	}
	if _, budget, err := (answerCacheFlags{}).parse(); err != nil || budget.Percent != 10 {
		t.Errorf("budget of answers: %+v, %v", budget, err)
	}
	if _, budget, err := (answerCacheFlags{Cache: "full"}).parse(); err != nil || !budget.IsZero() {
		t.Errorf("budget of a full cache: %+v, %v", budget, err)
	}
}

// runJSON runs the binary, which must succeed, and decodes its one object.
func runJSON[T any](t *testing.T, data string, args ...string) T {
	t.Helper()
	out := runAPI(t, data, args...)
	if out.code != 0 {
		t.Fatalf("api %s: exit code %d\n%s", strings.Join(args, " "), out.code, out.stderr)
	}
	var v T
	decoder := json.NewDecoder(strings.NewReader(out.stdout))
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("api %s: %v in %q", strings.Join(args, " "), err, out.stdout)
	}
	if decoder.More() {
		t.Fatalf("api %s printed more than one object", strings.Join(args, " "))
	}
	return v
}

func TestUsedWrongly(t *testing.T) {
	data := t.TempDir()
	for _, test := range []struct {
		name string
		args []string
		says string // on standard error
	}{
		{"no command", nil, "expected one of"},
		{"unknown flag", []string{"serve", "--nonsense"}, "--nonsense"},
		{"unknown cache", []string{"generate", "x", "--cache", "nonsense"}, "--cache"},
		{"cache of another build", []string{"generate", "x", "--cache", "h2o+kivi3"}, "kivi"},
		{"budget without meaning", []string{"generate", "x", "--budget", "many"}, "--budget"},
		{"missing model", []string{"generate", "x", "--model", "/nonexistent.gguf"}, "--model"},
		{"no prompt", []string{"generate"}, "--prompt-file"},
		{"two prompts", []string{"generate", "x", "--prompt-file", "README.md"}, "not both"},
		{"no text", []string{"perplexity"}, "--tokens"},
		{"bench of one token", []string{"bench", "--tokens", "1"}, "--tokens"},
		{"bench of no cache", []string{"bench", "--caches", "nonsense@5%"}, "--cache"},
		{"bench with a budget without meaning", []string{"bench", "--caches", "full,sinks@many"}, "--budget"},
		{"bench of an unknown peer", []string{"bench", "--peer", "nobody"}, "--peer"},
		{"bench of the embedder beside a decoder", []string{"bench", "--embedding", "--peer", "llama.cpp"}, "--peer"},
		{"bench with files for no peer", []string{"bench", "--peer-files", "x.gguf"}, "--peer-files"},
		{"bench from nothing", []string{"bench", "--from", "/nonexistent.json"}, "--from"},
		{"missing path", []string{"ingest", "/nonexistent"}, "/nonexistent"},
		{"bad address", []string{"serve", "--addr", "nowhere"}, "--addr"},
		{"another machine's address", []string{"serve", "--addr", "0.0.0.0:0"}, "127.0.0.1"},
		{"memory for no answer", []string{"serve", "--addr", "127.0.0.1:0", "--cache-memory", "1MiB"}, "--cache-memory"},
		{"defaults that refuse every question", []string{"serve", "--addr", "127.0.0.1:0", "--limit", "0"}, "limit"},
		{"a similarity that no passage has", []string{"serve", "--addr", "127.0.0.1:0", "--min-similarity", "1.5"}, "min_similarity"},
		{"no queue", []string{"serve", "--addr", "127.0.0.1:0", "--queue=-1"}, "--queue"},
		{"missing reranker", []string{"search", "x", "--reranker", "/nonexistent"}, "--reranker"},
		{"no query", []string{"search", ""}, "query"},
		{"training for an unknown policy", []string{"train", "README.md", "--policies", "vote:128"}, "--policies"},
		{"training on nothing", []string{"train", "README.md", "--windows", "0"}, "--windows"},
		{"training on a missing file", []string{"train", "/nonexistent"}, "/nonexistent"},
		{"bad memory", []string{"serve", "--cache-memory", "12"}, "--cache-memory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := runAPI(t, data, test.args...)
			if out.code != exitUsage {
				t.Errorf("exit code %d, want %d", out.code, exitUsage)
			}
			if !strings.Contains(out.stderr, test.says) {
				t.Errorf("standard error %q does not name %q", out.stderr, test.says)
			}
			if out.stdout != "" {
				t.Errorf("standard output %q", out.stdout)
			}
		})
	}
}
