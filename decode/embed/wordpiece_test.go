package embed

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lessrag/lesskernels/vectortest"
)

func openWordPiece(t testing.TB) *WordPiece {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(embedderDir(t), "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := ParseWordPiece(data, 30522)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestEncodeReference compares ids with those of transformers' tokenizer.
func TestEncodeReference(t *testing.T) {
	w := openWordPiece(t)
	var want [][]int32
	vectortest.Read(t, "testdata/ids.json.gz", &want)
	for i, text := range fixtureTexts(t) {
		if got := w.Encode(text, 256); !slices.Equal(got, want[i]) {
			t.Errorf("text %d %.60q:\n got %v\nwant %v", i, text, got, want[i])
		}
	}
}

func TestEncodeLimit(t *testing.T) {
	w := openWordPiece(t)
	long := w.Encode(strings.Repeat("one two ", 100), 256)
	for limit := 2; limit < 260; limit += 7 {
		got := w.Encode(strings.Repeat("one two ", 100), limit)
		if want := min(limit, len(long)); len(got) != want {
			t.Fatalf("limit %d: %d ids, want %d", limit, len(got), want)
		}
		if got[0] != w.cls || got[len(got)-1] != w.sep {
			t.Fatalf("limit %d: not between [CLS] and [SEP]: %v", limit, got)
		}
		if !slices.Equal(got[:len(got)-1], long[:len(got)-1]) {
			t.Fatalf("limit %d: not a prefix of the full text's ids", limit)
		}
	}
}

func TestParseWordPieceRefuses(t *testing.T) {
	good := `{"added_tokens":[{"id":1,"content":"[CLS]"}],"normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"},
		"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2}}}`
	if _, err := ParseWordPiece([]byte(good), 3); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"not JSON", `{`, `[`, "invalid character"},
		{"other normalizer", "BertNormalizer", "NFC", "normalizer"},
		{"other pre-tokenizer", "BertPreTokenizer", "ByteLevel", "pre_tokenizer"},
		{"other model", `"WordPiece"`, `"BPE"`, "model"},
		{"no unknown token", `"[UNK]":0,`, ``, "[UNK]"},
		{"no prefix", `"##"`, `""`, "prefix"},
		{"zero word length", `_word":100`, `_word":0`, "max_input_chars_per_word"},
		{"id beyond the embeddings", `"[SEP]":2`, `"[SEP]":3`, "3 embeddings"},
		{"negative id", `"[SEP]":2`, `"[SEP]":-1`, "id -1"},
		{"added token not in the vocabulary", `"content":"[CLS]"`, `"content":"[ODD]"`, "[ODD]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := strings.Replace(good, c.old, c.new, 1)
			if _, err := ParseWordPiece([]byte(bad), 3); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one about %q", err, c.want)
			}
		})
	}
}

func FuzzEncode(f *testing.F) {
	w := openWordPiece(f)
	for _, text := range []string{"", "héllo wörld", "[SEP]", "\xff\xfe", "漢字 mixed", strings.Repeat("x", 200), "😀"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids := w.Encode(text, 64)
		if len(ids) < 2 || len(ids) > 64 || ids[0] != w.cls || ids[len(ids)-1] != w.sep {
			t.Fatalf("%q: %v", text, ids)
		}
		for _, id := range ids {
			if id < 0 || int(id) >= len(w.vocab) {
				t.Fatalf("%q: id %d", text, id)
			}
		}
	})
}
