package bench

import (
	"errors"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What a process may do wrong, as scripts that speak the protocol, or do not.
func TestPeerProtocol(t *testing.T) {
	const hello = `read line; echo '{"name": "a peer"}'; `
	for name, test := range map[string]struct{ script, want string }{
		"ends at once":     {`echo "no such module" >&2; exit 3`, "no such module"},
		"has no name":      {`read line; echo '{}'`, "does not say what it is"},
		"fails to load":    {`read line; echo '{"error": "cannot load"}'`, "cannot load"},
		"speaks no JSON":   {hello + `read line; echo hello`, `answered "hello`},
		"fails a work":     {hello + `read line; echo '{"error": "no memory"}'`, "no memory"},
		"ends in a work":   {hello + `read line; echo "killed" >&2`, "killed"},
		"never ends lines": {hello + `read line; head -c 2000000 /dev/zero`, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := startPeer(exec.Command("sh", "-c", test.script), map[string]int{})
			if err == nil {
				_, err = p.Run(t.Context(), [][]int32{{1, 2}}, 2)
				p.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error about %q", err, test.want)
			}
		})
	}
}

// A script that answers only the request that it expects.
func TestPeerRequest(t *testing.T) {
	p, err := startPeer(exec.Command("sh", "-c", `read line; echo '{"name": "a peer"}'; read line
		[ "$line" = '{"prompts":[[1,2],[3,4]],"tokens":9}' ] && echo '{"first": 0.5, "decode": 2}' || echo "{\"error\": \"another request\"}"`),
		llamaSetup{Model: "x", Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Run(t.Context(), [][]int32{{1, 2}, {3, 4}}, 9)
	if err != nil || got.First.Seconds() != 0.5 || got.Decode.Seconds() != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestNoPeer(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := OpenLlama(t.Context(), dir, []string{filepath.Join(dir, "x.gguf")}, 2); !errors.Is(err, ErrNoPeer) || !strings.Contains(err.Error(), "make peer") {
		t.Errorf("weights that are missing: %v", err)
	}
	if _, err := openONNX(t.Context(), dir, 2); !errors.Is(err, ErrNoPeer) || !strings.Contains(err.Error(), dir) {
		t.Errorf("an environment that is missing: %v", err)
	}
}

func TestLlamaFiles(t *testing.T) {
	if got := LlamaFiles("a", "a/models/SmolLM2-135M-Instruct.Q4_1.gguf"); len(got) != 2 || quantisation(got[1]) != "Q4_0" {
		t.Errorf("the default reader's weights are %q", got)
	}
	if got := LlamaFiles("a", "other.Q8_0.gguf"); len(got) != 1 || quantisation(got[0]) != "Q8_0" {
		t.Errorf("another's are %q", got)
	}
}

func TestCosine(t *testing.T) {
	if got := cosine([]float32{3, 4}, []float32{6, 8}); !(math.Abs(got-1) < 1e-12) {
		t.Errorf("the same direction has the cosine %v", got)
	}
	if got := cosine([]float32{1}, []float32{1, 0}); got == got {
		t.Errorf("vectors of two lengths have the cosine %v", got)
	}
}
