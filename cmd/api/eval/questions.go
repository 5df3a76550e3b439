package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"lessrag/retrieve"
)

// maxLine bounds a line of a set or a log, bytes.
const maxLine = 1 << 20

// ReadQuestions reads a set; an error names the line. Questions that nothing answers
// need no source.
func ReadQuestions(path string, needSource bool) ([]retrieve.Expected, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []retrieve.Expected
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, maxLine)
	n := 0
	for lines.Scan() {
		if n++; len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var q retrieve.Expected
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&q); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		if strings.TrimSpace(q.Question) == "" || needSource && strings.TrimSpace(q.Source) == "" {
			return nil, fmt.Errorf(`%s, line %d: "question" and "source" must not be empty`, path, n)
		}
		all = append(all, q)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s, line %d: %w", path, n+1, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no questions", path)
	}
	return all, nil
}
