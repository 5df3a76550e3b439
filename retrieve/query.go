package retrieve

import (
	"errors"
	"fmt"
	"strings"
)

// The ways to search.
const (
	Hybrid  = "hybrid"  // both lists, fused
	Vector  = "vector"  // nearest by cosine only
	Lexical = "lexical" // by words only; embeds nothing
)

// Bounds of a query.
const (
	DefaultLimit  = 10
	MaxLimit      = 100
	DefaultWiden  = 600
	MaxWiden      = 8_000
	MaxQueryBytes = 8 << 10
	maxNameBytes  = 256
)

// Query is one search. Its zero Limit, Widen and Mode mean DefaultLimit, DefaultWiden and Hybrid.
type Query struct {
	Text       string
	After      string // the question before, where Text follows up on it: both are searched for
	Collection string
	Limit      int    // 1…MaxLimit passages
	Widen      int    // tokens that a place may have, at most MaxWiden: what was found, and what is around it in its section
	Mode       string // Hybrid, Vector or Lexical
	// Filter narrows by the documents' metadata, as decoded from JSON: {"key": value}
	// for equality, {"key": {"op": value}} with eq, ne, lt, lte, gt, gte, in or exists; all must hold.
	Filter map[string]any
	Exact  bool // look at every vector, as is done anyway in a small collection: the ground truth
}

// InvalidError says which field of a query was refused, and why.
type InvalidError struct{ Field, Reason string }

func (e *InvalidError) Error() string { return e.Field + ": " + e.Reason }

// ErrNotFound is wrapped by the error for a collection that does not exist.
var ErrNotFound = errors.New("not found")

// EmbedderMismatchError refuses to search vectors with another model's.
type EmbedderMismatchError struct {
	Collection       string
	Recorded, Loaded string // model names
}

func (e *EmbedderMismatchError) Error() string {
	return fmt.Sprintf("collection %q was embedded by %s, but %s is loaded: start with that embedder, or ingest the collection again",
		e.Collection, e.Recorded, e.Loaded)
}

// words are what is searched for by words.
func (q Query) words() string {
	if q.After == "" {
		return q.Text
	}
	return Joined(q.After, q.Text)
}

// normalize applies the defaults and checks every field.
func (q Query) normalize() (Query, error) {
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	if q.Mode == "" {
		q.Mode = Hybrid
	}
	if q.Widen == 0 {
		q.Widen = DefaultWiden
	}
	if reason := checkText(q.words()); reason != "" {
		return q, &InvalidError{"query", reason}
	}
	switch {
	case strings.TrimSpace(q.Text) == "":
		return q, &InvalidError{"query", "must not be empty"}
	case len(q.words()) > MaxQueryBytes:
		return q, &InvalidError{"query", fmt.Sprintf("must be at most %d bytes, has %d", MaxQueryBytes, len(q.words()))}
	case q.Collection == "" || len(q.Collection) > maxNameBytes || checkText(q.Collection) != "":
		return q, &InvalidError{"collection", "must be a name of valid UTF-8 without NUL, 1 to 256 bytes long"}
	case q.Limit < 1 || q.Limit > MaxLimit:
		return q, &InvalidError{"limit", fmt.Sprintf("must be 1 to %d, is %d", MaxLimit, q.Limit)}
	case q.Widen < 1 || q.Widen > MaxWiden:
		return q, &InvalidError{"widen", fmt.Sprintf("must be 1 to %d, is %d", MaxWiden, q.Widen)}
	case q.Mode != Hybrid && q.Mode != Vector && q.Mode != Lexical:
		return q, &InvalidError{"mode", fmt.Sprintf("must be hybrid, vector or lexical, is %q", q.Mode)}
	}
	return q, nil
}
