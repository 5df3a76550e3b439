package embed

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// batchRows is the most tokens of one pass: enough that handing work to threads costs little,
// few enough that a question waits less than 50 ms behind a document.
const batchRows = 512

// runner is an encoder with its tokenizer. It is safe for concurrent use:
// passes take turns, so that a short call gets in between the passes of a long one.
type runner struct {
	tokenizer *WordPiece
	encoder   *encoder
	turn      chan struct{} // holds one token: the right to use the encoder
}

// load reads tokenizer.json and model.safetensors, in which the encoder's names
// begin with prefix; more, where given, reads what stands beside it. It returns
// the name of the folder and the weights in it.
func (r *runner) load(dir string, c config, p *cpu.Pool, prefix string, more func(*loader)) (name string, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		return "", err
	}
	r.turn = make(chan struct{}, 1)
	if r.tokenizer, err = ParseWordPiece(data, c.Vocabulary); err != nil {
		return "", fmt.Errorf("tokenizer.json: %w", err)
	}
	file, err := os.Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return "", err
	}
	defer file.Close()
	if name, err = nameOf(dir, file); err != nil {
		return "", err
	}
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	tensors, err := lesskernels.ReadSafetensors(file, info.Size())
	if err != nil {
		return "", fmt.Errorf("model.safetensors: %w", err)
	}
	l := &loader{file: tensors, isa: cpu.Best(), prefix: prefix}
	r.encoder = l.encoder(c, p)
	if more != nil {
		l.prefix = ""
		more(l)
	}
	if l.err != nil {
		return "", fmt.Errorf("model.safetensors: %w", l.err)
	}
	return name, nil
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

// run encodes n texts, as many at a time as fit into batchRows, at least one,
// and hands over where each batch stands in the encoder's scratch.
func (r *runner) run(ctx context.Context, n int, encode func(i int) text, take func([]span)) error {
	var batch []text
	rows := 0
	for i := range n {
		t := encode(i)
		if len(batch) > 0 && rows+len(t.ids) > batchRows {
			if err := r.pass(ctx, batch, take); err != nil {
				return err
			}
			batch, rows = batch[:0], 0
		}
		batch, rows = append(batch, t), rows+len(t.ids)
	}
	if n == 0 {
		return ctx.Err()
	}
	return r.pass(ctx, batch, take)
}

// pass waits for its turn and encodes one batch.
func (r *runner) pass(ctx context.Context, batch []text, take func([]span)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	spans, err := r.encoder.encode(ctx, batch)
	if err != nil {
		return err
	}
	take(spans)
	return nil
}
