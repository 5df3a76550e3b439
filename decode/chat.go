package decode

import (
	"errors"

	"github.com/ardanlabs/jinja"

	"lessrag/decode/gguf"
	"lessrag/decode/tokenizer"
)

// ErrNoTemplate means that a model's file has no chat template.
var ErrNoTemplate = errors.New("the model's file has no chat template (tokenizer.chat_template); use an instruction-tuned model")

// Message is one turn of a conversation.
type Message struct {
	Role    string // system, user, assistant or tool
	Content string
}

// Template renders conversations as the model was trained to read them.
type Template struct{ compiled *jinja.Template }

// NewTemplate compiles the chat template of a model.
func NewTemplate(f *gguf.File) (*Template, error) {
	source, ok := f.String("tokenizer.chat_template")
	if !ok {
		return nil, ErrNoTemplate
	}
	compiled, err := jinja.Compile(source)
	if err != nil {
		return nil, err
	}
	return &Template{compiled}, nil
}

// Encode renders msgs, ready for the assistant's answer, into token ids. The
// text of a message never becomes a special token.
func (t *Template) Encode(tok *tokenizer.Tokenizer, msgs []Message) ([]int32, error) {
	list := make([]any, len(msgs))
	for i, m := range msgs {
		list[i] = map[string]any{"role": m.Role, "content": m.Content}
	}
	text, err := t.compiled.Render(map[string]any{"messages": list, "add_generation_prompt": true})
	if err != nil {
		return nil, err
	}
	return tok.EncodeSpecial(text, nil), nil
}
