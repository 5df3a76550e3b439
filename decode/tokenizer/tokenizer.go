// Package tokenizer turns text into token ids and back with byte-level BPE
// (Sennrich et al., arXiv 1508.07909; bytes as in GPT-2), from the vocabulary
// and the merges in a GGUF file. Ids are those of HuggingFace's tokenizers.
package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"lessrag/decode/gguf"
)

// ErrUnsupported marks a vocabulary of a kind that is not read.
var ErrUnsupported = errors.New("unsupported tokenizer")

// The values of tokenizer.ggml.token_type that matter here.
const (
	typeNormal      = 1
	typeControl     = 3
	typeUserDefined = 4
)

// endTexts are control tokens that end a turn or a document whatever the file
// says, since files name at most one of them.
var endTexts = []string{"<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "</s>"}

// Tokenizer is immutable but for its cache, and safe for concurrent use.
type Tokenizer struct {
	pieces   [][]byte // the bytes of every id; a special token's are its name
	specials specials
	split    splitter
	merges   merges
	whole    map[string]int32 // words that are one token without merging; nil unless the model ignores merges
	cache    cache

	bos    int32 // -1: none
	eos    int32 // -1: none
	addBOS bool
	ends   []int32
}

// FromGGUF builds the tokenizer of a model. Kinds other than byte-level BPE,
// and pre-tokenizers that are not known, give ErrUnsupported.
func FromGGUF(f *gguf.File) (*Tokenizer, error) {
	t, err := fromGGUF(f)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return t, nil
}

func fromGGUF(f *gguf.File) (*Tokenizer, error) {
	t := new(Tokenizer)
	if err := t.readKind(f); err != nil {
		return nil, err
	}
	ids, err := t.readVocabulary(f)
	if err != nil {
		return nil, err
	}
	if t.merges, err = readMerges(f, ids); err != nil {
		return nil, err
	}
	if err := t.readEnds(f, ids); err != nil {
		return nil, err
	}
	return t, nil
}

// readKind checks the model's kind and picks its pre-tokenizer.
func (t *Tokenizer) readKind(f *gguf.File) error {
	model, ok := f.String("tokenizer.ggml.model")
	if !ok {
		return errors.New("the file has no tokenizer.ggml.model")
	}
	if model != "gpt2" {
		return fmt.Errorf("%w: tokenizer.ggml.model is %q; byte-level BPE (\"gpt2\") is read", ErrUnsupported, model)
	}
	pre, ok := f.String("tokenizer.ggml.pre")
	if !ok {
		return errors.New("the file has no tokenizer.ggml.pre, so how it splits words is not known; convert it anew")
	}
	if t.split, ok = splitters[pre]; !ok {
		return fmt.Errorf("%w: pre-tokenizer (tokenizer.ggml.pre) %q; gpt-2, llama-bpe and smollm are read", ErrUnsupported, pre)
	}
	if pre == "llama-bpe" {
		t.whole = make(map[string]int32)
	}
	return nil
}

// readVocabulary fills pieces, specials and whole, and returns the id of every
// token's text as the file writes it.
func (t *Tokenizer) readVocabulary(f *gguf.File) (map[string]int32, error) {
	texts, ok := f.Strings("tokenizer.ggml.tokens")
	if !ok || len(texts) == 0 || len(texts) > math.MaxInt32 {
		return nil, errors.New("tokenizer.ggml.tokens must be a list of strings, not empty")
	}
	types, ok := f.Ints("tokenizer.ggml.token_type")
	if !ok {
		types = slices.Repeat([]int{typeNormal}, len(texts))
	}
	if len(types) != len(texts) {
		return nil, fmt.Errorf("tokenizer.ggml.token_type has %d entries for %d tokens", len(types), len(texts))
	}
	ids := make(map[string]int32, len(texts))
	t.pieces = make([][]byte, len(texts))
	for i, text := range texts {
		id := int32(i)
		if before, twice := ids[text]; twice {
			return nil, fmt.Errorf("tokenizer.ggml.tokens: %q is both token %d and token %d", text, before, id)
		}
		ids[text] = id
		if types[i] == typeControl || types[i] == typeUserDefined {
			t.pieces[i] = []byte(text)
			t.specials.add(text, id, types[i] == typeControl)
			continue
		}
		t.pieces[i] = fromByteLevel(text)
		if t.whole != nil && types[i] == typeNormal {
			t.whole[string(t.pieces[i])] = id
		}
	}
	t.specials.sort()
	return ids, nil
}

// readEnds finds the tokens that begin and end a sequence.
func (t *Tokenizer) readEnds(f *gguf.File, ids map[string]int32) error {
	id := func(key string) (int32, error) {
		n, ok := f.Int(key)
		if !ok {
			return -1, nil
		}
		if n < 0 || n >= t.Size() {
			return -1, fmt.Errorf("%s is %d, but there are %d tokens", key, n, t.Size())
		}
		return int32(n), nil
	}
	var err error
	if t.bos, err = id("tokenizer.ggml.bos_token_id"); err != nil {
		return err
	}
	if t.eos, err = id("tokenizer.ggml.eos_token_id"); err != nil {
		return err
	}
	t.addBOS, _ = f.Bool("tokenizer.ggml.add_bos_token")
	t.addBOS = t.addBOS && t.bos >= 0
	for _, key := range []string{"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"} {
		end, err := id(key)
		if err != nil {
			return err
		}
		if end >= 0 {
			t.ends = append(t.ends, end)
		}
	}
	for _, text := range endTexts {
		if end, ok := ids[text]; ok && t.specials.control(end) {
			t.ends = append(t.ends, end)
		}
	}
	return nil
}

// Size is the number of token ids: they are 0 to Size()-1.
func (t *Tokenizer) Size() int { return len(t.pieces) }

// BOS is the token that begins a sequence, or -1; add tells whether the model
// wants it before plain text (a chat template writes its own).
func (t *Tokenizer) BOS() (id int32, add bool) { return t.bos, t.addBOS }

// EOS is the token that ends a sequence, or -1.
func (t *Tokenizer) EOS() int32 { return t.eos }

// IsEnd tells whether id ends an answer: end of sequence, of turn or of message.
func (t *Tokenizer) IsEnd(id int32) bool { return slices.Contains(t.ends, id) }

// IsControl tells whether id is a control token, which is no part of a text.
func (t *Tokenizer) IsControl(id int32) bool { return t.specials.control(id) }

// Piece is the bytes of a token, which need not be whole UTF-8; they must not
// be changed. An id out of range has none.
func (t *Tokenizer) Piece(id int32) []byte {
	if id < 0 || int(id) >= len(t.pieces) {
		return nil
	}
	return t.pieces[id]
}

// Decode joins the pieces. Decode(Encode(s)) is s, but for bytes that the
// vocabulary has no token for: Encode, like its reference, leaves them out.
func (t *Tokenizer) Decode(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.Write(t.Piece(id))
	}
	return b.String()
}
