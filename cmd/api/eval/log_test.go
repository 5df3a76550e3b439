package eval

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestLogGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	measured := 0
	measure := func(value int) func() (int, error) {
		return func() (int, error) { measured++; return value, nil }
	}
	open := func() *Log {
		t.Helper()
		l, err := OpenLog(path)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	get := func(l *Log, mode string, value int) int {
		t.Helper()
		got, err := Remembered(l, Key{Question: "Why?", Mode: mode}, measure(value))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}

	l := open()
	get(l, "hybrid", 3)
	get(l, "vector", 4)
	if _, err := Remembered(l, Key{Mode: "lexical"}, func() (int, error) { return 0, errors.New("lost") }); err == nil {
		t.Error("a failed measurement is no error")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// An interruption in the middle of a line.
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content[:len(content)-4], 0o600); err != nil {
		t.Fatal(err)
	}

	l = open()
	if got := get(l, "hybrid", 9); got != 3 || measured != 2 {
		t.Errorf("measured again: %d after %d measurements", got, measured)
	}
	if got := get(l, "vector", 5); got != 5 || measured != 3 {
		t.Errorf("a line that was cut off gave %d after %d measurements", got, measured)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open()
	if got := get(l, "vector", 9); got != 5 {
		t.Errorf("after two interruptions: %d", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(path, []byte("{\"question\":\"not a log\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var invalid *InvalidError
	if _, err := OpenLog(path); !errors.As(err, &invalid) {
		t.Errorf("another file was taken for a log: %v", err)
	}
}
