package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Key names one measurement: whatever changes it is part of the name.
type Key struct {
	Question   string `json:"question"`
	Source     string `json:"source"`
	Section    string `json:"section,omitempty"`
	Collection string `json:"collection"`
	Mode       string `json:"mode,omitempty"`
	Cache      string `json:"cache,omitempty"`
	Prompt     string `json:"prompt,omitempty"` // what shapes the prompt and the answer's length
}

// Log keeps finished measurements in a file, a JSON object a line, so that
// an evaluation that was interrupted goes on where it was. Without a file it
// remembers nothing.
type Log struct {
	file *os.File
	done map[Key]json.RawMessage
}

type line struct {
	Key   Key             `json:"key"`
	Value json.RawMessage `json:"value"`
}

// OpenLog reads what is there and appends to it. A last line that was cut
// off is dropped; anything else that is no line of a log is an error, since it
// is somebody's other file.
func OpenLog(path string) (*Log, error) {
	l := &Log{done: map[Key]json.RawMessage{}}
	if path == "" {
		return l, nil
	}
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	whole := content[:bytes.LastIndexByte(content, '\n')+1]
	lines := bufio.NewScanner(bytes.NewReader(whole))
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		var line line
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&line); err != nil {
			return nil, &InvalidError{"--log", fmt.Sprintf("%s, line %d: not the log of an evaluation: %v", path, n, err)}
		}
		l.done[line.Key] = line.Value
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--log %s: %w", path, err)
	}
	if l.file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return nil, err
	}
	if err = l.file.Truncate(int64(len(whole))); err == nil {
		_, err = l.file.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, errors.Join(err, l.file.Close())
	}
	return l, nil
}

// Close closes the file.
func (l *Log) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// Remembered is what the log has under key, or what measure gives, which is
// then kept.
func Remembered[T any](l *Log, key Key, measure func() (T, error)) (value T, err error) {
	if kept, ok := l.done[key]; ok {
		if err := json.Unmarshal(kept, &value); err != nil {
			return value, fmt.Errorf("--log: %w", err)
		}
		return value, nil
	}
	if value, err = measure(); err != nil || l.file == nil {
		return value, err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return value, err
	}
	line, err := json.Marshal(line{key, text})
	if err != nil {
		return value, err
	}
	_, err = l.file.Write(append(line, '\n'))
	return value, err
}
