package ingest

import (
	"fmt"

	"lessrag/ingest/extract"
)

// Chunk is one passage: a span of the extracted text with its place in it.
type Chunk struct {
	Text        string // exactly extracted[Start:End]
	Start, End  int    // bytes
	Page        *int   // 1-based; nil for formats without pages
	HeadingPath []string
	Tokens      int
}

// chunkSizes are in tokens.
type chunkSizes struct {
	target, max, overlap int
}

func (s chunkSizes) check() error {
	switch {
	case s.target < 1:
		return fmt.Errorf("ingest: passages of %d tokens: at least 1 is needed", s.target)
	case s.max < s.target:
		return fmt.Errorf("ingest: passages of at most %d tokens cannot have a target of %d", s.max, s.target)
	case s.overlap >= s.target:
		return fmt.Errorf("ingest: an overlap of %d tokens leaves nothing of passages of %d", s.overlap, s.target)
	}
	return nil
}

func chunkDocument(d extract.Document, t TokenCounter, s chunkSizes) []Chunk { return nil }
