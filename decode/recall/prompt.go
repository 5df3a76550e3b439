package recall

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"lessrag/decode"
	"lessrag/decode/tokenizer"
)

// Kind of a prompt.
type Kind string

// The kinds.
const (
	Synthetic Kind = "synthetic" // an access code that was put into a passage
	Natural   Kind = "natural"   // the default value of a setting that a passage explains
)

// Prompt asks for one fact in many documents.
type Prompt struct {
	ID     string // unique in its set
	Kind   Kind
	Length int // tokens that were aimed at
	Depth  int // third of the documents that holds the fact, from 0

	Documents string
	Question  string
	Prefix    string // of an answer, up to the fact
	Gold      string // the fact, with the space before it
	Sentence  [2]int // bytes of Documents that state the fact
	Answer    [2]int // bytes of Documents that are the fact
}

const (
	system       = "You are a helpful AI assistant. Answer from the documents."
	questionMark = "Question: " // what the question begins with, after the documents
)

// Encoded is a Prompt in a model's tokens.
type Encoded struct {
	Prompt
	Tokens        []int32 // in the model's chat template
	QuestionRows  int     // last of Tokens: the question and what the template adds
	PrefixTokens  []int32
	GoldTokens    []int32
	SentenceRange [2]int // of Tokens
	AnswerRange   [2]int // of Tokens
}

// Encode renders the prompt as the model was trained to read it.
func (p Prompt) Encode(tok *tokenizer.Tokenizer, template *decode.Template) (Encoded, error) {
	question := questionMark + p.Question
	tokens, err := template.Encode(tok, []decode.Message{
		{Role: "system", Content: system},
		{Role: "user", Content: p.Documents + question},
	})
	if err != nil {
		return Encoded{}, fmt.Errorf("prompt %s: %w", p.ID, err)
	}
	var text bytes.Buffer
	offsets := make([]int, len(tokens)+1) // of tokens in the text
	for i, token := range tokens {
		text.Write(tok.Piece(token))
		offsets[i+1] = text.Len()
	}
	documents := bytes.Index(text.Bytes(), []byte(p.Documents))
	asked := bytes.LastIndex(text.Bytes(), []byte(question))
	if documents < 0 || asked < 0 {
		return Encoded{}, fmt.Errorf("prompt %s: its text is not in the model's tokens", p.ID)
	}
	cover := func(span [2]int) [2]int {
		from, _ := slices.BinarySearch(offsets, documents+span[0]+1)
		to, _ := slices.BinarySearch(offsets, documents+span[1])
		return [2]int{from - 1, to}
	}
	first, _ := slices.BinarySearch(offsets, asked+1)
	return Encoded{
		Prompt: p, Tokens: tokens, QuestionRows: len(tokens) - first + 1,
		PrefixTokens: tok.Encode(p.Prefix), GoldTokens: tok.Encode(p.Gold),
		SentenceRange: cover(p.Sentence), AnswerRange: cover(p.Answer),
	}, nil
}

// mark finds the sentence and the fact in it, after the place where the passage
// begins.
func (p *Prompt) mark(from int, sentence, fact string) error {
	at := strings.Index(p.Documents[from:], sentence)
	if at < 0 {
		return fmt.Errorf("prompt %s: its documents do not hold %q", p.ID, sentence)
	}
	p.Sentence = [2]int{from + at, from + at + len(sentence)}
	end := strings.LastIndex(sentence, fact) + len(fact)
	p.Answer = [2]int{from + at + end - len(fact), from + at + end}
	return nil
}
