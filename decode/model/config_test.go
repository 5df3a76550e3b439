package model

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"lessrag/decode/gguf"
	"lessrag/lesskernels/cpu"
)

// patch is a change to the tiny model's file that keeps it well-formed GGUF.
type patch func(data []byte) []byte

// number overwrites the 32 bits of a metadata value.
func number(key string, bits uint32) patch {
	return func(data []byte) []byte {
		at := bytes.Index(data, []byte(key)) + len(key) + 4 // after the value's type
		binary.LittleEndian.PutUint32(data[at:], bits)
		return data
	}
}

// rename replaces the first occurrence of a text by one of the same length.
func rename(from, to string) patch {
	return func(data []byte) []byte { return bytes.Replace(data, []byte(from), []byte(to), 1) }
}

func TestDamagedModelsAreRefused(t *testing.T) {
	tiny, err := os.ReadFile(tinyPath)
	if err != nil {
		t.Fatal(err)
	}
	pool := cpu.NewPool(1)
	defer pool.Close()
	nan := math.Float32bits(float32(math.NaN()))
	for name, test := range map[string]struct {
		patch       patch
		want        string
		unsupported bool
	}{
		"another architecture":   {rename("llama", "mamba"), "mamba", true},
		"no layers":              {number("llama.block_count", 0), "llama.block_count is 0", false},
		"a billion layers":       {number("llama.block_count", 1e9), "llama.block_count", false},
		"a layer too many":       {number("llama.block_count", 3), "blk.2.", false},
		"a layer too few":        {number("llama.block_count", 1), "blk.1.", true},
		"no context":             {rename("llama.context_length", "llama.context_lengtH"), "llama.context_length is missing", false},
		"another width":          {number("llama.embedding_length", 32), "has shape", false},
		"another hidden width":   {number("llama.feed_forward_length", 97), "has shape", false},
		"heads do not divide":    {number("llama.attention.head_count_kv", 4), "no multiple", false},
		"more KV heads":          {number("llama.attention.head_count_kv", 12), "no multiple", false},
		"odd head dimension":     {number("llama.attention.key_length", 15), "even", false},
		"other value dimension":  {number("llama.attention.value_length", 8), "values of dimension 8", true},
		"partial rotation":       {number("llama.rope.dimension_count", 8), "8 of 16", true},
		"no number as epsilon":   {number("llama.attention.layer_norm_rms_epsilon", nan), "epsilon", false},
		"no number as base":      {number("llama.rope.freq_base", nan), "freq_base", false},
		"a tensor is missing":    {rename("blk.1.attn_q.weight", "blk.1.attn_Q.weight"), "blk.1.attn_q.weight is missing", false},
		"a tensor without place": {rename("rope_freqs.weight", "rope_freqz.weight"), "rope_freqz.weight", true},
		"no embedding":           {rename("token_embd.weight", "token_embX.weight"), "token_embd.weight", false},
	} {
		f, err := gguf.Parse(test.patch(bytes.Clone(tiny)))
		if err != nil {
			t.Fatalf("%s: the file itself: %v", name, err)
		}
		_, err = NewCPU(f, Int8, Limits{Tokens: 1, Sequences: 1}, pool)
		if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, ErrUnsupported) != test.unsupported {
			t.Errorf("%s: %v; want an error that says %q (unsupported: %v)", name, err, test.want, test.unsupported)
		}
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	f, err := gguf.Open(tinyPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pool := cpu.NewPool(1)
	defer pool.Close()
	if _, err := NewCPU(f, "int4", Limits{Tokens: 1, Sequences: 1}, pool); err == nil || !strings.Contains(err.Error(), `"int4"`) {
		t.Errorf("math int4: %v", err)
	}
	for _, limits := range []Limits{{}, {Tokens: 1, Sequences: 2}, {Tokens: -1, Sequences: 1}} {
		if _, err := NewCPU(f, Int8, limits, pool); err == nil {
			t.Errorf("limits %+v were taken", limits)
		}
	}
}
