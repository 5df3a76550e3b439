package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lessrag/ingest"
)

const (
	watchEvery = 2 * time.Second
	// settled is how long a file must have been left alone: what is being written is not read.
	settled = time.Second
)

// mirror removes the documents of files that are no longer below the walked directories.
func mirror(ctx context.Context, service *ingest.Service, collection string, f found) (int, error) {
	var gone []string
	for _, root := range f.roots {
		prefix := filepath.ToSlash(root) + "/"
		if root == "." {
			prefix = ""
		}
		names, err := service.Names(ctx, collection, prefix)
		if err != nil {
			return 0, err
		}
		for _, name := range names {
			if !f.holds(name) && !isURL(name) && !filepath.IsAbs(name) == !filepath.IsAbs(root) && !strings.HasPrefix(name, "../") == !strings.HasPrefix(root, "..") {
				gone = append(gone, name)
			}
		}
	}
	if len(gone) == 0 {
		return 0, nil
	}
	return service.DeleteNames(ctx, collection, gone)
}

// holds reports whether a name is that of a file, or of a file in an archive.
func (f found) holds(name string) bool {
	for path := name; path != "." && path != "/" && path != ""; path = filepath.ToSlash(filepath.Dir(path)) {
		if _, ok := f.files[filepath.FromSlash(path)]; ok {
			return true
		}
	}
	return false
}

// changes are what differs between two walks: files to take, and whether any is gone. A file that was touched in this
// moment waits for the next round, and so does one that is missed for the first time: editors put a new file in the
// place of an old one, and for a moment there is none.
func changes(before, now found, at time.Time) (changed []string, gone bool) {
	for path, s := range now.files {
		if old, ok := before.files[path]; (!ok || old != s) && at.Sub(s.modified) >= settled {
			changed = append(changed, path)
		}
	}
	for path, s := range before.files {
		if _, ok := now.files[path]; !ok && s.missed {
			gone = true
		}
	}
	slices.Sort(changed)
	return changed, gone
}

// wait keeps what the next round must compare with: of files that were not taken the stamp of before, or none, and of
// those that are missed for the first time that they are.
func (f found) wait(before found, changed []string) {
	for path, s := range f.files {
		old, ok := before.files[path]
		switch {
		case slices.Contains(changed, path) || ok && old == s:
		case ok:
			old.missed = false
			f.files[path] = old
		default:
			delete(f.files, path)
		}
	}
	for path, s := range before.files {
		if _, ok := f.files[path]; !ok && !s.missed {
			s.missed = true
			f.files[path] = s
		}
	}
}

// watch follows the directories until ctx ends: looking is slower than being told, but misses nothing, on any
// file system and for any number of files.
func (c *ingestCmd) watch(ctx context.Context, service *ingest.Service, seen found) error {
	fmt.Fprintf(os.Stderr, "watching %s; stop with Ctrl-C\n", strings.Join(c.Paths, ", "))
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := c.walk(c.Paths)
		if err != nil {
			fmt.Fprintf(os.Stderr, "looking for changes: %v\n", err)
			continue
		}
		changed, gone := changes(seen, now, time.Now())
		// What came is taken before what went is removed: the content of a renamed file is still there.
		if len(changed) > 0 {
			o, err := c.submitAndFollow(ctx, service, fileSources(changed), newReporter(os.Stderr, len(changed)))
			if err != nil {
				return err
			}
			o.print(os.Stdout)
		}
		now.wait(seen, changed)
		if gone {
			n, err := mirror(ctx, service, c.Collection, now)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "%d documents removed\n", n)
		}
		seen = now
	}
}
