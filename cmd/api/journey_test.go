package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lessrag/cmd/api/answer"
	"lessrag/retrieve"
)

// TestJourney is the way of a first user: check the machine, ingest the
// handbook, search it, ask it, serve it.
func TestJourney(t *testing.T) {
	data := t.TempDir()

	doctor := runJSON[struct {
		Findings []finding
		Failures int
	}](t, data, "doctor", "--json")
	if doctor.Failures != 0 || len(doctor.Findings) < 8 {
		t.Fatalf("doctor: %+v", doctor)
	}

	ingested := runJSON[outcome](t, data, "ingest", "examples/handbook", "--collection", "handbook", "--json")
	if ingested.Failed != 0 || ingested.Ready != ingested.Total || ingested.Ready < 12 || ingested.Chunks < ingested.Ready {
		t.Fatalf("ingest: %+v", ingested)
	}
	again := runJSON[outcome](t, data, "ingest", "examples/handbook", "--collection", "handbook", "--json")
	if again.Duplicates != ingested.Total || again.Ready != ingested.Total {
		t.Errorf("ingesting the same again: %+v", again)
	}

	found := runJSON[retrieve.Results](t, data, "search", "bytes of a KV cache for each token", "--collection", "handbook", "--json")
	if len(found.Passages) == 0 || found.Passages[0].Text == "" || found.Passages[0].Document.Name == "" {
		t.Fatalf("search: %+v", found)
	}

	questions, err := readQuestions(filepath.Join(root, "examples/questions.txt"))
	if err != nil || len(questions) != 5 {
		t.Fatalf("examples/questions.txt: %d questions, %v", len(questions), err)
	}
	record := runJSON[answer.Record](t, data, "ask", questions[0], "--collection", "handbook", "--json")
	if record.Answer == "" || len(record.Passages) == 0 || record.FinishReason == "" {
		t.Fatalf("ask: %+v", record)
	}
	if m := record.Memory; m.HeldBytes <= 0 || m.HeldBytes > m.BudgetBytes || m.Cache != answerCache || m.BudgetBytes > 20<<20 {
		t.Errorf("ask holds %d of %d bytes in %s", m.HeldBytes, m.BudgetBytes, m.Cache)
	}

	serving := serve(t, data)
	t.Run("a second server is refused", func(t *testing.T) {
		out := runAPI(t, data, "serve", "--addr", "127.0.0.1:0")
		if out.code != exitFailed || !strings.Contains(out.stderr, "another server") {
			t.Errorf("exit code %d, %q", out.code, out.stderr)
		}
	})
	t.Run("commands attach to the running cluster", func(t *testing.T) {
		found := runJSON[retrieve.Results](t, data, "search", "attention sinks", "--collection", "handbook", "--json")
		if len(found.Passages) == 0 {
			t.Error("nothing found while a server runs")
		}
	})
	t.Run("a cross-encoder or a second embedder reads what was found", func(t *testing.T) {
		for _, kind := range []string{"tiny-reranker", "tiny-embedder"} {
			out := runJSON[struct {
				Passages []retrieve.Passage
				Timing   struct {
					RerankMS float64 `json:"rerank_ms"`
				}
			}](t, data, "search", "attention sinks", "--collection", "handbook", "--json", "--reranker", "decode/embed/testdata/"+kind)
			if len(out.Passages) == 0 || !(out.Timing.RerankMS > 0) {
				t.Errorf("%s: %d passages, read in %g ms", kind, len(out.Passages), out.Timing.RerankMS)
			}
		}
	})
	t.Run("the five questions are answered with sources", func(t *testing.T) {
		for _, q := range questions {
			checkAnswer(t, chat(t, serving.url, q))
		}
	})
	t.Run("events come in order", func(t *testing.T) { checkEvents(t, serving.url, questions[1]) })
	serving.stop(t)
}

// checkAnswer looks at what every answer must have.
func checkAnswer(t *testing.T, r answer.Record) {
	t.Helper()
	if r.Answer == "" || r.FinishReason == answer.FinishRefused || len(r.Passages) == 0 {
		t.Errorf("%q: %q, %s, %d passages", r.Question, r.Answer, r.FinishReason, len(r.Passages))
	}
	if len(r.Citations) == 0 {
		t.Errorf("%q: no citation in %q", r.Question, r.Answer)
	}
	for _, c := range r.Citations {
		marker := fmt.Sprintf("[%d]", c.Marker)
		if c.Marker < 1 || c.Marker > len(r.Passages) || r.Passages[c.Marker-1].ID != c.PassageID || !strings.Contains(r.Answer, marker) {
			t.Errorf("%q: citation %+v does not hold", r.Question, c)
		}
	}
}

// server is a running `api serve`.
type serving struct {
	cmd *exec.Cmd
	url string
}

// serve starts a server on a free port and waits until it is ready.
func serve(t *testing.T, data string) *serving {
	t.Helper()
	cmd := command(context.Background(), t, data, "serve", "--addr", "127.0.0.1:0", "--collection", "handbook", "--questions", "examples/questions.txt")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM) })
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "ready: "); ok {
			return &serving{cmd, strings.TrimSuffix(strings.Fields(rest)[0], "/")}
		}
	}
	t.Fatalf("the server ended before it was ready: %v\n%s", cmd.Wait(), stderr.String())
	return nil
}

// stop ends the server as a supervisor would; it must exit with 0.
func (s *serving) stop(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

func chat(t *testing.T, url, question string) answer.Record {
	t.Helper()
	response := post(t, url, question, "application/json")
	defer response.Body.Close()
	var r answer.Record
	if err := json.NewDecoder(response.Body).Decode(&r); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("POST /api/v1/chat: %s, %v", response.Status, err)
	}
	return r
}

func post(t *testing.T, url, question, accept string) *http.Response {
	t.Helper()
	body, err := json.Marshal(map[string]any{"question": question, "temperature": 0})
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodPost, url+"/api/v1/chat", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// checkEvents reads a stream to its end: retrieval first, then text, then
// usage and done, with ids from 1 that rise by one.
func checkEvents(t *testing.T, url, question string) {
	response := post(t, url, question, "text/event-stream")
	defer response.Body.Close()
	if got := response.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
		t.Fatalf("content type %q", got)
	}
	var names []string
	next := 1
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "id":
			if value != fmt.Sprint(next) {
				t.Errorf("id %s, want %d", value, next)
			}
			next++
		case "event":
			names = append(names, value)
		}
	}
	if len(names) < 4 || names[0] != "retrieval" || names[1] != "delta" ||
		names[len(names)-2] != "usage" || names[len(names)-1] != "done" {
		t.Errorf("events %v", names)
	}
}

// TestOneBadFile: a file that is refused, and one that fails, cost the others
// nothing, and both are named.
func TestOneBadFile(t *testing.T) {
	documents := t.TempDir()
	for name, text := range map[string]string{
		"good.md": "# Bridge\n\nThe bridge of Velm is 31 metres long.\n", "blank.md": " \n", "bad\xff.md": "# Name\n\nIts name is no UTF-8.\n",
	} {
		if err := os.WriteFile(filepath.Join(documents, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(documents, link); err != nil {
		t.Fatal(err)
	}
	out := runAPI(t, t.TempDir(), "ingest", link)
	if out.code != exitFailed || !strings.Contains(out.stdout, "1 ready, 1 failed") ||
		!strings.Contains(out.stdout, "blank.md") || !strings.Contains(out.stdout, `bad\xff.md`) {
		t.Errorf("exit code %d\n%s%s", out.code, out.stdout, out.stderr)
	}
}
