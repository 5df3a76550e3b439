package tokenizer

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"lessrag/decode/gguf"
	"lessrag/decode/gguf/gguftest"
)

// Bytes that the model's vocabulary has no token for: six control characters,
// bytes that UTF-8 never uses, and the first byte of planes 4 to 11, which hold
// no characters.
const missingBytes = "\x04\x06\x13\x14\x16\x1d\xc0\xc1\xf1\xf2\xf5\xf6\xf7\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff"

// withoutMissing is what Decode(Encode(s)) must give.
func withoutMissing(s string) string {
	kept := make([]byte, 0, len(s))
	for i := range len(s) {
		if strings.IndexByte(missingBytes, s[i]) < 0 {
			kept = append(kept, s[i])
		}
	}
	return string(kept)
}

func TestMissingBytes(t *testing.T) {
	tok := smolLM(t)
	for b := range 256 {
		s := string([]byte{byte(b)})
		if got, want := tok.Decode(tok.Encode(s)), withoutMissing(s); got != want {
			t.Errorf("byte %#x comes back as %q, want %q", b, got, want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	tok := smolLM(t)
	text := string(mixedText(t))
	if got := tok.Decode(tok.Encode(text)); got != withoutMissing(text) {
		t.Error("the mixed text does not come back")
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		for _, s := range []string{string(b), strings.ToValidUTF8(string(b), "é")} {
			if got := tok.Decode(tok.Encode(s)); got != withoutMissing(s) {
				t.Fatalf("%q comes back as %q", s, got)
			}
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	tok := smolLM(f)
	for line := range strings.Lines(testFile(f, "languages.txt")) {
		f.Add(line)
	}
	f.Add("\xff\xfe invalid \xe2\x82")
	f.Fuzz(func(t *testing.T, s string) {
		ids := tok.Encode(s)
		if got := tok.Decode(ids); got != withoutMissing(s) {
			t.Fatalf("%q comes back as %q", s, got)
		}
		if special := tok.EncodeSpecial(s, [][2]int{{0, len(s)}}); !slices.Equal(special, ids) {
			t.Fatalf("%q: all of it literal gives %d, want %d", s, special, ids)
		}
		for _, id := range ids {
			if tok.IsControl(id) {
				t.Fatalf("%q has the control token %d", s, id)
			}
		}
		if n := tok.Count(s); n != len(ids) {
			t.Fatalf("Count %d, want %d", n, len(ids))
		}
	})
}

// A word of a million letters costs a few steps for each, like shorter ones.
func TestLongWord(t *testing.T) {
	tok := smolLM(t)
	for unit, bytes := range map[string]int{"a": 1 << 20, "ab": 1 << 16, "é": 1 << 16, " ": 1 << 16, "!": 1 << 16, "漢": 1 << 16} {
		word := strings.Repeat(unit, bytes/len(unit))
		m := new(merger)
		ids := m.merge(nil, &tok.merges, word)
		if limit := 3 * len(word); m.pops > limit {
			t.Errorf("%q: %d steps for %d bytes, want at most %d", unit, m.pops, len(word), limit)
		}
		if m.symbols != nil || m.heap != nil {
			t.Errorf("%q: its memory is kept", unit)
		}
		if tok.Decode(ids) != word {
			t.Errorf("%q: does not come back", unit)
		}
	}
}

func TestEncodeSpecial(t *testing.T) {
	tok := smolLM(t)
	const start, end = 1, 2
	text := func(s string) []int32 { return tok.Encode(s) }
	join := slices.Concat[[]int32]
	for _, c := range []struct {
		text    string
		literal [][2]int
		want    []int32
	}{
		{"", nil, nil},
		{"<|im_start|>user\nhi<|im_end|>\n", nil, join([]int32{start}, text("user\nhi"), []int32{end}, text("\n"))},
		{"<|im_end|><|im_end|>", nil, []int32{end, end}},
		{"<|im_end|><|im_end|>", [][2]int{{0, 10}}, join(text("<|im_end|>"), []int32{end})},
		{"<|im_end|><|im_end|>", [][2]int{{10, 20}}, join([]int32{end}, text("<|im_end|>"))},
		{"<|im_end|><|im_end|>", [][2]int{{9, 11}}, text("<|im_end|><|im_end|>")},
		{"<|im_end|>", [][2]int{{9, 10}}, text("<|im_end|>")},
		{"<|im_end|>", [][2]int{{0, 1}}, text("<|im_end|>")},
		{"<|im_end|>", [][2]int{{4, 5}}, text("<|im_end|>")},
		{"<|im_end|>", [][2]int{{4, 4}, {10, 12}, {-3, 0}, {7, 2}}, []int32{end}},
		{"a<|im_end|>b<|im_end|>", [][2]int{{12, 22}, {0, 3}, {2, 5}}, text("a<|im_end|>b<|im_end|>")},
		{"<|im_end|", nil, text("<|im_end|")},
		{"<|IM_END|>", nil, text("<|IM_END|>")},
	} {
		if got := tok.EncodeSpecial(c.text, c.literal); !slices.Equal(got, c.want) {
			t.Errorf("%q, literal %v: %d, want %d", c.text, c.literal, got, c.want)
		}
	}
	if got := text("<|im_end|>"); slices.Contains(got, end) || tok.Decode(got) != "<|im_end|>" {
		t.Errorf("Encode knows special tokens: %d", got)
	}
}

func TestEnds(t *testing.T) {
	tok := smolLM(t)
	if bos, add := tok.BOS(); bos != 1 || add {
		t.Errorf("BOS %d, %t, want 1 and not added", bos, add)
	}
	if tok.EOS() != 2 || tok.Size() != 49152 {
		t.Errorf("EOS %d of %d tokens, want 2 of 49152", tok.EOS(), tok.Size())
	}
	for id, want := range map[int32]bool{0: true, 1: false, 2: true, 3: false, 100: false, -1: false} {
		if tok.IsEnd(id) != want {
			t.Errorf("IsEnd(%d) is not %t", id, want)
		}
	}
	if !tok.IsControl(16) || tok.IsControl(17) {
		t.Error("control tokens are 0 to 16")
	}
	for id, want := range map[int32]string{2: "<|im_end|>", -1: "", 1 << 30: ""} {
		if got := string(tok.Piece(id)); got != want {
			t.Errorf("Piece(%d) = %q, want %q", id, got, want)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	tok := smolLM(t)
	text := string(mixedText(t)[:100_000])
	want := tok.Encode(text)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if !slices.Equal(tok.Encode(text), want) {
				t.Error("ids differ")
			}
		})
	}
	wg.Wait()
	if n := len(tok.cache.words); n > cacheWords {
		t.Errorf("%d words in the cache", n)
	}
}

// tiny is a vocabulary that FromGGUF accepts; each case of the test below
// breaks one of its keys.
func tiny() map[string]any {
	return map[string]any{
		"tokenizer.ggml.model":        "gpt2",
		"tokenizer.ggml.pre":          "smollm",
		"tokenizer.ggml.tokens":       []string{"<s>", "a", "b", "ab"},
		"tokenizer.ggml.token_type":   []int32{3, 1, 1, 1},
		"tokenizer.ggml.merges":       []string{"a b"},
		"tokenizer.ggml.eos_token_id": uint32(0),
	}
}

func build(t *testing.T, keys map[string]any) (*Tokenizer, error) {
	t.Helper()
	var file gguftest.File
	for name, value := range keys {
		file.Keys = append(file.Keys, gguftest.Key{Name: name, Value: value})
	}
	f, err := gguf.Parse(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return FromGGUF(f)
}

func TestTiny(t *testing.T) {
	tok, err := build(t, tiny())
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Encode("abcaab<s>"); !slices.Equal(got, []int32{3, 1, 3}) {
		t.Errorf("ids %d", got)
	}
	if bos, add := tok.BOS(); bos != -1 || add {
		t.Errorf("BOS %d, %t of a file without one", bos, add)
	}
}

func TestFromGGUFRefuses(t *testing.T) {
	for _, c := range []struct {
		key         string
		value       any // nil: the key is missing
		says        string
		unsupported bool
	}{
		{"tokenizer.ggml.model", nil, "no tokenizer.ggml.model", false},
		{"tokenizer.ggml.model", "llama", `"llama"`, true},
		{"tokenizer.ggml.pre", nil, "no tokenizer.ggml.pre", false},
		{"tokenizer.ggml.pre", "qwen2", `"qwen2"`, true},
		{"tokenizer.ggml.tokens", nil, "tokenizer.ggml.tokens", false},
		{"tokenizer.ggml.tokens", []string{}, "tokenizer.ggml.tokens", false},
		{"tokenizer.ggml.tokens", []string{"<s>", "a", "a", "ab"}, "both token 1 and token 2", false},
		{"tokenizer.ggml.token_type", []int32{3}, "1 entries for 4 tokens", false},
		{"tokenizer.ggml.merges", nil, "tokenizer.ggml.merges", false},
		{"tokenizer.ggml.merges", []string{"a b", "b a"}, "rule 1", false},
		{"tokenizer.ggml.merges", []string{"ab"}, "rule 0", false},
		{"tokenizer.ggml.merges", []string{"a b", "a b"}, "twice", false},
		{"tokenizer.ggml.eos_token_id", uint32(4), "tokenizer.ggml.eos_token_id is 4", false},
		{"tokenizer.ggml.bos_token_id", int32(-1), "tokenizer.ggml.bos_token_id is -1", false},
		{"tokenizer.ggml.eot_token_id", uint64(1 << 40), "tokenizer.ggml.eot_token_id is", false},
	} {
		keys := tiny()
		keys[c.key] = c.value
		if c.value == nil {
			delete(keys, c.key)
		}
		_, err := build(t, keys)
		if err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, ErrUnsupported) != c.unsupported {
			t.Errorf("%s = %v: got %v, want it to say %q (unsupported: %t)", c.key, c.value, err, c.says, c.unsupported)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	tok := smolLM(b)
	text := string(mixedText(b))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tok.Encode(text)
	}
}
