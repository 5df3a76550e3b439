package answer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lessrag/decode"
	"lessrag/retrieve"
)

// The question of a prompt is its own words and what the template adds, whatever
// stands before it.
func TestAsked(t *testing.T) {
	assets := os.Getenv("LESSRAG_ASSETS")
	if assets == "" {
		assets = filepath.Join("..", "..", "..", "assets")
	}
	engine, err := decode.Open(filepath.Join(assets, "models", "SmolLM2-135M-Instruct.Q4_1.gguf"), decode.Options{})
	if err != nil {
		t.Fatalf("%v; run make fetch", err)
	}
	defer engine.Close()
	s := &Service{Engine: engine}
	passages := []retrieve.Passage{{Text: "The kettle holds 1.7 litres. What does the kettle hold?"}, {Text: "The lamp has 9 watts."}}
	for _, question := range []string{"What does the kettle hold?", "?", "Question: how many watts has the lamp"} {
		found := append([]retrieve.Passage(nil), passages...)
		written, err := s.prompt(plan{text: question, context: 500, room: 8192, maxTokens: 10}, found)
		if err != nil || len(written.passages) != len(passages) {
			t.Fatalf("%q: %d passages, %v", question, len(written.passages), err)
		}
		var asked strings.Builder
		for _, token := range written.tokens[len(written.tokens)-written.question:] {
			asked.Write(engine.Tokenizer().Piece(token))
		}
		if text := asked.String(); !strings.HasPrefix(strings.TrimSpace(text), question) || !strings.HasSuffix(text, "assistant\n") || strings.Contains(text, "litres") {
			t.Errorf("%q: asked %q", question, text)
		}
	}
}
