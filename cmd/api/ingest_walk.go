package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"lessrag/ingest/extract"
)

// selection says which files of a directory are taken. A file named on the command line always is.
type selection struct {
	Include  []string `help:"Take only files below directories whose path matches one of these globs (** crosses directories)." placeholder:"GLOB"`
	Exclude  []string `help:"Pass over files and directories whose path matches one of these globs." placeholder:"GLOB"`
	NoIgnore bool     `help:"Take what .gitignore and .lessragignore files say to pass over."`
}

// prose takes running text alone, by name: what training reads, the same whatever an ignore file says.
var prose = selection{NoIgnore: true, Include: []string{"*.md", "*.markdown", "*.txt", "*.text", "*.html", "*.htm", "*.xhtml"}}

// check refuses globs that do not parse.
func (s selection) check() error {
	for _, glob := range slices.Concat(s.Include, s.Exclude) {
		if !doublestar.ValidatePattern(glob) {
			return usageError{fmt.Errorf("%q is not a glob", glob)}
		}
	}
	return nil
}

// found is what a walk saw.
type found struct {
	paths   []string // in order, each once
	files   map[string]stamp
	roots   []string // the directories that were walked
	skipped int      // files that are not documents
}

// stamp tells whether a file has changed.
type stamp struct {
	size     int64
	modified time.Time
	missed   bool // it was not there when it was looked for last
}

// walk lists the files of the given paths, each once, in a stable order. Hidden files and directories, ignored
// ones, and files whose content is no document's are passed over.
func (s selection) walk(paths []string) (found, error) {
	f := found{files: map[string]stamp{}}
	for _, root := range paths {
		info, err := os.Stat(root)
		if err != nil {
			return f, usageError{err}
		}
		if !info.IsDir() {
			f.files[filepath.Clean(root)] = stamp{size: info.Size(), modified: info.ModTime()}
			continue
		}
		f.roots = append(f.roots, filepath.Clean(root))
		if err := s.walkDir(root, &f); err != nil {
			return f, fmt.Errorf("reading %s: %w", root, err)
		}
	}
	for path := range f.files {
		f.paths = append(f.paths, path)
	}
	slices.Sort(f.paths)
	return f, nil
}

func (s selection) walkDir(root string, f *found) error {
	var ignored ignoreRules
	root += string(filepath.Separator) // a link to a directory is followed
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		within, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		within = filepath.ToSlash(within)
		if entry.IsDir() {
			if within != "." && (strings.HasPrefix(entry.Name(), ".") || matches(s.Exclude, within) || ignored.match(within, true)) {
				return filepath.SkipDir
			}
			if !s.NoIgnore {
				return ignored.read(path, within)
			}
			return nil
		}
		switch {
		case strings.HasPrefix(entry.Name(), "."), matches(s.Exclude, within), ignored.match(within, false):
		case !entry.Type().IsRegular(), len(s.Include) > 0 && !matches(s.Include, within), !isDocument(path):
			f.skipped++
		default:
			info, err := entry.Info()
			if err != nil {
				return nil // it went in this moment
			}
			f.files[filepath.Clean(path)] = stamp{size: info.Size(), modified: info.ModTime()}
		}
		return nil
	})
}

// matches tries globs on a path and, those without a slash, on its last part.
func matches(globs []string, path string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		whole, _ := doublestar.Match(glob, path)
		if whole || strings.Contains(glob, "/") {
			return whole
		}
		last, _ := doublestar.Match(glob, path[strings.LastIndexByte(path, '/')+1:])
		return last
	})
}

// isDocument looks at the beginning of a file. One that cannot be opened is a document, so that its failure is told.
func isDocument(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close()
	head := make([]byte, 4096)
	n, err := io.ReadFull(f, head)
	if n == 0 && err == io.EOF {
		return true // empty: told too
	}
	return extract.Readable(head[:n])
}
