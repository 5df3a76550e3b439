package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lessrag/retrieve"
)

// TestWatch follows a directory with the real binary, and searches it with another: what is made, changed, renamed,
// written slowly, replaced as editors do, made in great number or deleted is found as it is in the end.
func TestWatch(t *testing.T) {
	data, dir := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// found are the names of the documents whose passages have a word.
	found := func(word string) string {
		t.Helper()
		var names []string
		for _, p := range runJSON[retrieve.Results](t, data, "search", word, "--mode", "lexical", "--json").Passages {
			if strings.Contains(p.Text, word) {
				names = append(names, filepath.Base(p.Document.Name))
			}
		}
		return strings.Join(names, " ")
	}
	become := func(word, want string) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for {
			got := found(word)
			if got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%q is found in %q, want %q", word, got, want)
			}
			time.Sleep(200 * time.Millisecond)
		}
	}

	write("a.md", "# A\n\nThe lantern burns blue.")
	watching := startWatch(t, data, dir)
	become("lantern", "a.md")

	write("b.md", "# B\n\nThe bridge is long.")
	become("bridge", "b.md")
	write("a.md", "# A\n\nThe lamp burns red.")
	become("lamp", "a.md")
	become("lantern", "")

	if err := os.Rename(filepath.Join(dir, "b.md"), filepath.Join(dir, "c.md")); err != nil {
		t.Fatal(err)
	}
	become("bridge", "c.md")

	// A new file is put in the place of the old one; or the old one is moved away first.
	write(".a.md.new", "# A\n\nThe torch burns white.")
	if err := os.Rename(filepath.Join(dir, ".a.md.new"), filepath.Join(dir, "a.md")); err != nil {
		t.Fatal(err)
	}
	become("torch", "a.md")
	if err := os.Rename(filepath.Join(dir, "c.md"), filepath.Join(dir, ".c.md~")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(watchEvery) // long enough to be missed once
	taken := func() int { return strings.Count(watching.output(), "1 ready") }
	before := taken()
	write("c.md", "# C\n\nThe bridge is longer.")
	become("longer", "c.md")
	for deadline := time.Now().Add(time.Minute); taken() == before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what was taken is not told")
		}
	}

	// A file is read when nothing has been written to it for a while.
	before = taken()
	slow, err := os.Create(filepath.Join(dir, "slow.md"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		fmt.Fprintf(slow, "Line %d of the chronicle.\n\n", i)
		time.Sleep(300 * time.Millisecond)
	}
	fmt.Fprintln(slow, "The finale.")
	if err := slow.Close(); err != nil {
		t.Fatal(err)
	}
	become("finale", "slow.md")
	time.Sleep(watchEvery) // it is told a moment after it can be found
	if n := taken() - before; n != 1 {
		t.Errorf("a file that was written slowly was taken %d times", n)
	}

	const many = 150
	for i := range many {
		write(fmt.Sprintf("many%03d.md", i), fmt.Sprintf("# Crate %d\n\nCrate %d holds widget%03d.", i, i, i))
	}
	become(fmt.Sprintf("widget%03d", many-1), fmt.Sprintf("many%03d.md", many-1))
	for i := range many {
		if err := os.Remove(filepath.Join(dir, fmt.Sprintf("many%03d.md", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "c.md")); err != nil {
		t.Fatal(err)
	}
	become("widget000", "")
	become("longer", "")

	watching.stop()
	out := runJSON[outcome](t, data, "ingest", dir, "--mirror", "--json")
	if out.Total != 2 || out.Duplicates != 2 || out.Removed != 0 || out.Embedding != 0 {
		t.Errorf("in the end: %+v", out)
	}
	if got := watching.output(); strings.Contains(got, "failed:") || strings.Contains(got, "refused:") {
		t.Errorf("something failed:\n%s", got)
	}
}

// watching is a running `api ingest --watch`.
type watching struct {
	stop func()
	mu   sync.Mutex
	said bytes.Buffer
}

func (w *watching) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.Write(p)
}

func (w *watching) output() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.String()
}

func startWatch(t *testing.T, data, dir string) *watching {
	t.Helper()
	w := &watching{}
	cmd := command(context.Background(), t, data, "ingest", dir, "--watch")
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the watch ended with %v:\n%s", err, w.output())
		}
	}
	t.Cleanup(func() { w.stop() })
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(w.output(), "watching ") {
		if time.Now().After(deadline) {
			t.Fatalf("it does not watch:\n%s", w.output())
		}
		time.Sleep(50 * time.Millisecond)
	}
	return w
}
