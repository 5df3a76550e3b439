package main

import (
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lessrag/ingest"
)

// extensions are those that a directory walk takes; a file named on the
// command line is taken whatever it is called, and judged by its content.
var extensions = []string{".md", ".markdown", ".txt", ".text", ".html", ".htm", ".xhtml"}

// found is what a walk saw.
type found struct {
	paths   []string
	skipped int // files of other types
}

// walk lists the files of the given paths, each once, in a stable order.
// Hidden files and directories are passed over.
func walk(paths []string) (found, error) {
	var f found
	for _, root := range paths {
		info, err := os.Stat(root)
		if err != nil {
			return f, usageError{err}
		}
		if info.IsDir() {
			root += string(filepath.Separator) // a link to a directory is followed
		}
		err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case path != root && strings.HasPrefix(entry.Name(), "."):
				if entry.IsDir() {
					return filepath.SkipDir
				}
			case entry.IsDir():
			case path == root || entry.Type().IsRegular() && slices.Contains(extensions, strings.ToLower(filepath.Ext(path))):
				f.paths = append(f.paths, filepath.Clean(path))
			default:
				f.skipped++
			}
			return nil
		})
		if err != nil {
			return f, fmt.Errorf("reading %s: %w", root, err)
		}
	}
	slices.Sort(f.paths)
	f.paths = slices.Compact(f.paths)
	return f, nil
}

// batches reads the files, a bounded amount at a time; one that cannot be read
// is refused and the others go on. A document's name is its path as given, so
// that ingesting the same tree again replaces it.
func batches(paths []string, refuse func(name string, reason error)) iter.Seq[[]ingest.File] {
	return func(yield func([]ingest.File) bool) {
		var batch []ingest.File
		size := 0
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				refuse(path, err)
				continue
			}
			if len(batch) > 0 && (len(batch) == batchFiles || size+len(content) > batchBytes) {
				if !yield(batch) {
					return
				}
				batch, size = nil, 0
			}
			source := path
			if absolute, err := filepath.Abs(path); err == nil {
				source = "file://" + filepath.ToSlash(absolute)
			}
			batch = append(batch, ingest.File{Name: filepath.ToSlash(path), Source: source, Content: content})
			size += len(content)
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}
