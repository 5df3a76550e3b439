package fetch

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// runPeer runs the script that builds the peers.
func runPeer(t *testing.T, environment ...string) (output string, code int) {
	t.Helper()
	cmd := exec.Command("sh", "peer.sh")
	cmd.Env = append(os.Environ(), environment...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// layOut writes files of a few bytes below dir.
func layOut(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPeerSaysWhatIsMissing(t *testing.T) {
	models := t.TempDir()
	layOut(t, models, "models/SmolLM2-135M-Instruct.Q4_1.gguf", "embedders/all-MiniLM-L6-v2/model.safetensors")
	for want, environment := range map[string][]string{
		"run make fetch first": {"LESSRAG_ASSETS=" + t.TempDir()},
		"cannot read":          {"LESSRAG_PEER_REQUIREMENTS=/nowhere"},
		"python3 is needed":    {"LESSRAG_ASSETS=" + models, "PATH=" + pathWithoutPython(t)},
	} {
		output, code := runPeer(t, environment...)
		if code != 1 || !strings.HasPrefix(output, "peer: ") || !strings.Contains(output, want) || strings.Count(output, "\n") != 1 {
			t.Errorf("exit code %d and %q, want 1 and a line with %q", code, output, want)
		}
	}
}

// What is built already is left alone: no Python is needed, nothing is printed.
func TestPeerIsBuiltOnce(t *testing.T) {
	assets := t.TempDir()
	layOut(t, assets, "peer/SmolLM2-135M-Instruct.Q4_0.gguf", "peer/all-MiniLM-L6-v2.onnx", "peer/venv/bin/python")
	mark, err := exec.Command("sh", "-c", `printf '%s\n' "$(cksum <peer/requirements.txt) $(uname -sm)"`).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(assets, "peer/.built"), mark, 0o644); err != nil {
		t.Fatal(err)
	}
	if output, code := runPeer(t, "LESSRAG_ASSETS="+assets, "PATH="+pathWithoutPython(t)); code != 0 || output != "" {
		t.Errorf("exit code %d and %q", code, output)
	}
}

// Every package is pinned by version and hash, and the one that is built comes last,
// when the tools of its build are there.
func TestPeerPins(t *testing.T) {
	data, err := os.ReadFile("peer/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	pin := regexp.MustCompile(`(?m)^([a-z0-9-]+)==[0-9.]+ \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+`)
	var names []string
	rest := pin.ReplaceAllStringFunc(string(data), func(s string) string {
		names = append(names, pin.FindStringSubmatch(s)[1])
		return ""
	})
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "#") {
			t.Errorf("not pinned: %q", line)
		}
	}
	if len(names) < 10 || names[len(names)-1] != "llama-cpp-python" {
		t.Errorf("packages %q", names)
	}
}
