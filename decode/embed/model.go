// Package embed runs a sentence embedder: a BERT encoder read from
// safetensors, its WordPiece tokenizer, mean pooling and normalisation, as
// sentence-transformers does for all-MiniLM-L6-v2.
package embed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// batchRows is the most tokens of one pass: enough that handing work to threads costs little,
// few enough that a question waits less than 50 ms behind a document.
const batchRows = 512

// Model is an embedder. It is safe for concurrent use: passes take turns, so
// that a short call gets in between the passes of a long one.
type Model struct {
	name      string
	tokenizer *WordPiece
	encoder   *encoder
	turn      chan struct{} // holds one token: the right to use the encoder
}

// Open loads the embedder in dir: config.json, 1_Pooling/config.json,
// sentence_bert_config.json, tokenizer.json and model.safetensors. The pool
// stays the caller's.
func Open(dir string, p *cpu.Pool) (*Model, error) {
	m, err := open(dir, p)
	if err != nil {
		return nil, fmt.Errorf("embedder %s: %w", dir, err)
	}
	return m, nil
}

func open(dir string, p *cpu.Pool) (*Model, error) {
	c, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		return nil, err
	}
	m := &Model{turn: make(chan struct{}, 1)}
	if m.tokenizer, err = ParseWordPiece(data, c.Vocabulary); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	file, err := os.Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if m.name, err = nameOf(dir, file); err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	tensors, err := lesskernels.ReadSafetensors(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("model.safetensors: %w", err)
	}
	if m.encoder, err = newEncoder(tensors, c, p); err != nil {
		return nil, fmt.Errorf("model.safetensors: %w", err)
	}
	return m, nil
}

// nameOf names the folder and the weights in it.
func nameOf(dir string, weights io.Reader) (string, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, weights); err != nil {
		return "", fmt.Errorf("hash model.safetensors: %w", err)
	}
	return fmt.Sprintf("%s@%x", filepath.Base(path), hash.Sum(nil)[:6]), nil
}

// Dim is the length of the vectors.
func (m *Model) Dim() int { return m.encoder.Hidden }

// MaxTokens is how much of a text is read, [CLS] and [SEP] included.
func (m *Model) MaxTokens() int { return m.encoder.maxTokens }

// Name identifies the vectors: the model's name and the first 12 hex digits
// of its weights' SHA-256, as in "all-MiniLM-L6-v2@0123456789ab".
func (m *Model) Name() string { return m.name }

// Embed returns a unit vector for every text, the empty text included. Texts
// longer than MaxTokens are cut there, as sentence-transformers does. When
// ctx ends it stops within a layer of one pass and returns ctx's error.
func (m *Model) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	vectors := make([][]float32, 0, len(texts))
	for len(vectors) < len(texts) {
		batch := m.nextBatch(texts[len(vectors):])
		got, err := m.pass(ctx, batch)
		if err != nil {
			return nil, err
		}
		vectors = append(vectors, got...)
	}
	for i, v := range vectors {
		if !(math.Abs(float64(cpu.Dot(v, v))-1) < 1e-3) {
			return nil, fmt.Errorf("embed text %d: %w", i, errNotFinite)
		}
	}
	return vectors, nil
}

var errNotFinite = errors.New("the weights give no finite vector: the model file is damaged")

// nextBatch tokenizes as many texts as fit into batchRows, at least one.
func (m *Model) nextBatch(texts []string) [][]int32 {
	var batch [][]int32
	rows := 0
	for _, text := range texts {
		ids := m.tokenizer.Encode(text, m.encoder.maxTokens)
		if rows += len(ids); rows > batchRows && len(batch) > 0 {
			break
		}
		batch = append(batch, ids)
	}
	return batch
}

// pass waits for its turn and encodes one batch.
func (m *Model) pass(ctx context.Context, batch [][]int32) ([][]float32, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return m.encoder.encode(ctx, batch)
}

// Tokens are the tokens that Embed reads of a text, [CLS] and [SEP] included.
func (m *Model) Tokens(text string) []int32 { return m.tokenizer.Encode(text, m.encoder.maxTokens) }
