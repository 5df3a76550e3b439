package tokenizer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lessrag/decode/gguf"
)

const modelName = "SmolLM2-135M-Instruct.Q4_1.gguf"

// modelFile opens the reader that make fetch brings.
var modelFile = sync.OnceValues(func() (*gguf.File, error) {
	assets := os.Getenv("LESSRAG_ASSETS")
	if assets == "" {
		assets = "../../assets"
	}
	f, err := gguf.Open(filepath.Join(assets, "models", modelName))
	if err != nil {
		return nil, fmt.Errorf("%w\nrun make fetch", err)
	}
	return f, nil
})

// smolLM is the model's tokenizer.
func smolLM(t testing.TB) *Tokenizer {
	t.Helper()
	f, err := modelFile()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := FromGGUF(f)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// withSplitter is tok, splitting as another kind of model does.
func withSplitter(tok *Tokenizer, pre string) *Tokenizer {
	other := &Tokenizer{pieces: tok.pieces, specials: tok.specials, merges: tok.merges, split: splitters[pre], bos: -1, eos: -1}
	if pre == "llama-bpe" {
		other.whole = make(map[string]int32)
		for id, piece := range tok.pieces {
			if !tok.IsControl(int32(id)) {
				other.whole[string(piece)] = int32(id)
			}
		}
	}
	return other
}

// Ids are those of HuggingFace's tokenizers on 1.3 million characters of prose,
// code, many scripts, emoji, odd characters and broken spacing.
func TestIDsEqualReference(t *testing.T) {
	type kind struct {
		Tokens int
		IDs    string `json:"ids_sha256"`
		Pieces string `json:"piece_crc32"`
	}
	var want struct {
		Text     string `json:"text_sha256"`
		Bytes    int
		SmolLM   kind `json:"smollm"`
		GPT2     kind `json:"gpt-2"`
		LlamaBPE kind `json:"llama-bpe"`
	}
	if err := json.Unmarshal([]byte(testFile(t, "reference.json")), &want); err != nil {
		t.Fatal(err)
	}
	text := mixedText(t)
	if got := hexSHA256([]byte(string(text))); got != want.Text || want.Bytes < 1<<20 {
		t.Fatalf("the text made here is not the reference's: SHA-256 %s of %d bytes, want %s of %d", got, len(string(text)), want.Text, want.Bytes)
	}
	tok := smolLM(t)
	for pre, want := range map[string]kind{"smollm": want.SmolLM, "gpt-2": want.GPT2, "llama-bpe": want.LlamaBPE} {
		t.Run(pre, func(t *testing.T) {
			tok := withSplitter(tok, pre)
			pieces := strings.Fields(want.Pieces)
			var all []byte
			for i := 0; i*pieceRunes < len(text); i++ {
				piece := string(text[i*pieceRunes : min((i+1)*pieceRunes, len(text))])
				packed := pack(tok.Encode(piece))
				if got := fmt.Sprintf("%08x", crc32.ChecksumIEEE(packed)); got != pieces[i] {
					t.Fatalf("piece %d: ids have CRC-32 %s, want %s; it begins %.60q", i, got, pieces[i], piece)
				}
				all = append(all, packed...)
			}
			if got := hexSHA256(all); got != want.IDs || len(all)/4 != want.Tokens {
				t.Errorf("%d ids with SHA-256 %s, want %d with %s", len(all)/4, got, want.Tokens, want.IDs)
			}
		})
	}
}

func pack(ids []int32) []byte {
	packed := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		packed = binary.LittleEndian.AppendUint32(packed, uint32(id))
	}
	return packed
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
