package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// ignoreFiles are read in every directory of a walk; later ones win.
var ignoreFiles = []string{".gitignore", ".lessragignore"}

// ignoreRules are patterns in the manner of gitignore(5): the last one that matches decides.
type ignoreRules struct{ rules []ignoreRule }

type ignoreRule struct {
	glob    string // on the path from the root of the walk
	negated bool
	dirOnly bool
}

// read adds the rules of a directory, which hold below it. within is its path from the root of the walk, "." for that.
func (r *ignoreRules) read(dir, within string) error {
	for _, name := range ignoreFiles {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading what to ignore: %w", err)
		}
		for line := range strings.Lines(string(content)) {
			if rule, ok := parseIgnore(line, within); ok {
				r.rules = append(r.rules, rule)
			}
		}
	}
	return nil
}

// parseIgnore reads one line. Blank lines, comments and patterns that do not parse are no rules.
func parseIgnore(line, within string) (ignoreRule, bool) {
	line = strings.TrimRight(line, "\r\n")
	if trimmed := strings.TrimRight(line, " "); !strings.HasSuffix(trimmed, `\`) {
		line = trimmed
	}
	if line == "" || line[0] == '#' {
		return ignoreRule{}, false
	}
	var rule ignoreRule
	if rest, ok := strings.CutPrefix(line, "!"); ok {
		rule.negated, line = true, rest
	}
	if rest, ok := strings.CutSuffix(line, "/"); ok {
		rule.dirOnly, line = true, rest
	}
	anchored := strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if !anchored {
		line = "**/" + line
	}
	if within != "." {
		line = escapeGlob(within) + "/" + line
	}
	rule.glob = line
	return rule, line != "" && doublestar.ValidatePattern(line)
}

// match reports whether a path from the root of the walk is ignored. What is in an ignored directory is never asked.
func (r *ignoreRules) match(path string, dir bool) bool {
	for i := len(r.rules) - 1; i >= 0; i-- {
		rule := r.rules[i]
		if rule.dirOnly && !dir {
			continue
		}
		if ok, _ := doublestar.Match(rule.glob, path); ok {
			return !rule.negated
		}
	}
	return false
}

// escapeGlob makes a pattern that matches only itself.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "{", `\{`).Replace(s)
}
