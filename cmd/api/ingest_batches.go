package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"lessrag/ingest"
	"lessrag/ingest/fetch"
)

// A batch of files is submitted at once; whichever bound comes first ends it.
const (
	batchFiles = 64
	batchBytes = 16 << 20
	maxSource  = 64 << 20 // of one file or page
)

// source is something that can be read into a document.
type source struct {
	name string
	read func() (ingest.File, error)
}

// fileSources are the files of paths. A document's name is its path as given, so that ingesting the same tree
// again replaces it.
func fileSources(paths []string) []source {
	sources := make([]source, len(paths))
	for i, path := range paths {
		sources[i] = source{path, func() (ingest.File, error) {
			content, err := readBounded(path)
			if err != nil {
				return ingest.File{}, err
			}
			from := path
			if absolute, err := filepath.Abs(path); err == nil {
				from = "file://" + filepath.ToSlash(absolute)
			}
			return ingest.File{Name: filepath.ToSlash(path), Source: from, Content: content}, nil
		}}
	}
	return sources
}

// readBounded reads a file that is not larger than any document may be.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	if err == nil && len(content) > maxSource {
		err = fmt.Errorf("it is larger than %d MiB", maxSource>>20)
	}
	return content, err
}

// urlSources are pages on the web; the address is the document's name.
func urlSources(ctx context.Context, addresses []string) []source {
	client := fetch.New(maxSource)
	sources := make([]source, len(addresses))
	for i, address := range addresses {
		sources[i] = source{address, func() (ingest.File, error) {
			page, err := client.Get(ctx, address)
			return ingest.File{Name: address, Source: page.URL, MediaType: page.MediaType, Content: page.Content}, err
		}}
	}
	return sources
}

// readURLs reads a list of addresses, one a line; blank lines and comments are passed over.
func readURLs(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usageError{err}
	}
	defer f.Close()
	var urls []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			urls = append(urls, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return urls, nil
}

// isURL tells an address from a path.
func isURL(s string) bool { return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") }

// batches reads the sources, a bounded amount at a time; one that cannot be read
// is refused and the others go on.
func batches(sources []source, refuse func(name string, reason error)) iter.Seq[[]ingest.File] {
	return func(yield func([]ingest.File) bool) {
		var batch []ingest.File
		size := 0
		for _, s := range sources {
			f, err := s.read()
			if err != nil {
				refuse(s.name, err)
				continue
			}
			if len(batch) > 0 && (len(batch) == batchFiles || size+len(f.Content) > batchBytes) {
				if !yield(batch) {
					return
				}
				batch, size = nil, 0
			}
			batch = append(batch, f)
			size += len(f.Content)
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}
