// Package embed runs a sentence embedder: a BERT encoder read from
// safetensors, its WordPiece tokenizer, mean pooling and normalisation, as
// sentence-transformers does for all-MiniLM-L6-v2.
package embed

import (
	"context"
	"errors"

	"lessrag/lesskernels/cpu"
)

// Model is an embedder. It is safe for concurrent use: calls take turns.
type Model struct {
	name string
	dim  int
	pool *cpu.Pool
}

// Open loads the embedder in dir: config.json, tokenizer.json,
// sentence_bert_config.json and model.safetensors. The pool stays the
// caller's.
func Open(dir string, p *cpu.Pool) (*Model, error) {
	return nil, errors.ErrUnsupported
}

// Dim is the length of the vectors.
func (m *Model) Dim() int { return m.dim }

// Name identifies the vectors: the model's name and the first 12 hex digits
// of its weights' SHA-256, as in "all-MiniLM-L6-v2@0123456789ab".
func (m *Model) Name() string { return m.name }

// Embed returns a unit vector for every text, the empty text included. Texts
// longer than the model reads are cut there, as sentence-transformers does.
func (m *Model) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	return nil, errors.ErrUnsupported
}
