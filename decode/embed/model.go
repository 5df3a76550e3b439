// Package embed runs a sentence embedder: a BERT encoder read from
// safetensors, its WordPiece tokenizer, pooling and normalisation, as
// sentence-transformers does for all-MiniLM-L6-v2 and bge-small-en-v1.5.
package embed

import (
	"context"
	"errors"
	"fmt"
	"math"

	"lessrag/lesskernels/cpu"
)

// Model is an embedder. It is safe for concurrent use.
type Model struct {
	name string
	runner
}

// Open loads the embedder in dir: config.json, 1_Pooling/config.json,
// sentence_bert_config.json, config_sentence_transformers.json if questions are
// asked in another way than passages, tokenizer.json and model.safetensors. The pool
// stays the caller's.
func Open(dir string, p *cpu.Pool) (*Model, error) {
	m := new(Model)
	c, err := readConfig(dir)
	if err == nil {
		m.name, err = m.load(dir, c, p, "", nil)
	}
	if err != nil {
		return nil, fmt.Errorf("embedder %s: %w", dir, err)
	}
	return m, nil
}

// Dim is the length of the vectors.
func (m *Model) Dim() int { return m.encoder.Hidden }

// MaxTokens is how much of a text is read, [CLS] and [SEP] included.
func (m *Model) MaxTokens() int { return m.encoder.maxTokens }

// Name identifies the vectors: the model's name and the first 12 hex digits
// of its weights' SHA-256, as in "all-MiniLM-L6-v2@0123456789ab".
func (m *Model) Name() string { return m.name }

// EmbedQuery returns the unit vector of a question. Some models want a
// sentence before it, and another one before passages.
func (m *Model) EmbedQuery(ctx context.Context, text string) ([]float32, error) {
	vectors, err := m.embed(ctx, m.encoder.query, []string{text})
	if err != nil {
		return nil, err
	}
	return vectors[0], nil
}

// Embed returns a unit vector for every passage, the empty text included. Texts
// longer than MaxTokens are cut there, as sentence-transformers does. When
// ctx ends it stops within a layer of one pass and returns ctx's error.
func (m *Model) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	return m.embed(ctx, m.encoder.passage, texts)
}

func (m *Model) embed(ctx context.Context, prompt string, texts []string) ([][]float32, error) {
	vectors := make([][]float32, 0, len(texts))
	encode := func(i int) text { return alone(m.Tokens(prompt + texts[i])) }
	err := m.run(ctx, len(texts), encode, func(spans []span) {
		vectors = append(vectors, m.encoder.vectors(spans)...)
	})
	if err != nil {
		return nil, err
	}
	for i, v := range vectors {
		if !(math.Abs(float64(cpu.Dot(v, v))-1) < 1e-3) {
			return nil, fmt.Errorf("embed text %d: %w", i, errNotFinite)
		}
	}
	return vectors, nil
}

var errNotFinite = errors.New("the weights give no finite vector: the model file is damaged")

// Tokens are the tokens that Embed reads of a text, [CLS] and [SEP] included.
func (m *Model) Tokens(text string) []int32 { return m.tokenizer.Encode(text, m.encoder.maxTokens) }
