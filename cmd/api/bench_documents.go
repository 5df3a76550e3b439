package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"lessrag/cmd/api/bench"
)

// measureDocuments takes pages in, on a cluster of its own that goes with it.
func (c *benchCmd) measureDocuments(ctx context.Context, s *stack, r *bench.Results) (err error) {
	paths, err := c.pages()
	if err != nil {
		return err
	}
	data, err := os.MkdirTemp("", "lessrag-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	own := *s.globals
	own.Data, own.DatabaseURL = data, ""
	alone := &stack{globals: &own}
	defer func() { err = errors.Join(err, alone.close()) }()
	if err := alone.openIngestion(ctx); err != nil {
		return err
	}
	var peer *bench.Peer
	if c.Peer != "" {
		embedder, err := s.embedderDir()
		if err != nil {
			return err
		}
		peer, err = bench.OpenPipeline(ctx, c.Python, embedder, alone.pool.Config().ConnString(), threads(s.Threads))
		if err != nil {
			return fmt.Errorf("%w: --python names a Python to which pip has brought torch, sentence-transformers and psycopg[binary]", err)
		}
		defer func() { err = errors.Join(err, peer.Close()) }()
	}
	d, err := bench.MeasureDocuments(ctx, alone.ingestion, peer, paths, c.Slice, os.Stderr)
	if err != nil {
		return err
	}
	r.Documents = []bench.Documents{*d}
	return nil
}

// pages draws from the HTML pages below the directories, each content once, the same ones for the same seed.
func (c *benchCmd) pages() ([]string, error) {
	var paths []string
	seen := map[[sha256.Size]byte]bool{}
	for _, dir := range c.Documents {
		err := filepath.WalkDir(dir+string(filepath.Separator), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() || filepath.Ext(path) != ".html" {
				return err
			}
			content, err := os.ReadFile(path)
			if hash := sha256.Sum256(content); err == nil && !seen[hash] {
				seen[hash] = true
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			return nil, usageError{fmt.Errorf("--documents: %w", err)}
		}
	}
	if len(paths) == 0 || len(paths) < c.Pages {
		return nil, usageError{fmt.Errorf("--documents: %v have %d HTML pages: `make fetch-eval` brings the manuals", c.Documents, len(paths))}
	}
	slices.Sort(paths)
	random := rand.New(rand.NewPCG(c.Seed, 3))
	random.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
	if c.Pages > 0 {
		paths = paths[:c.Pages]
	}
	return paths, nil
}
