package decode

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ardanlabs/jinja"

	"lessrag/decode/gguf"
	"lessrag/decode/tokenizer"
)

// ErrNoTemplate means that a model's file has no chat template, so that how it
// was trained to read a conversation is not known.
var ErrNoTemplate = errors.New("the model's file has no chat template (tokenizer.chat_template); use an instruction-tuned model")

// roles that a Message may have. A template writes the role as it stands.
var roles = []string{"system", "user", "assistant", "tool"}

// Message is one turn of a conversation.
type Message struct {
	Role    string // system, user, assistant or tool
	Content string
}

// Template renders conversations as the model was trained to read them. It is
// safe for concurrent use.
//
// The template comes with the model's file and the messages from anyone, and
// neither is trusted: the template runs within the limits of chat_limits.go,
// and sees the text of a message only as opaque letters (see veil), so nothing
// in a message can become a special token. A template can therefore measure,
// slice and trim a text, but not look for words in it.
type Template struct{ compiled *jinja.Template }

// NewTemplate compiles the chat template of a model. A file without one gives
// ErrNoTemplate, a template that is malformed or could grow without limit an
// error that says where.
func NewTemplate(f *gguf.File) (*Template, error) {
	source, ok := f.String("tokenizer.chat_template")
	if !ok {
		return nil, ErrNoTemplate
	}
	t, err := newTemplate(source)
	if err != nil {
		return nil, fmt.Errorf("chat template (tokenizer.chat_template): %w", err)
	}
	return t, nil
}

func newTemplate(source string) (*Template, error) {
	limited, err := limitTemplate(source)
	if err != nil {
		return nil, err
	}
	compiled, err := compile(limited)
	if err != nil {
		return nil, err
	}
	return &Template{compiled}, nil
}

// Encode renders msgs, ready for the assistant's answer, into token ids: those
// of HuggingFace's apply_chat_template with add_generation_prompt.
func (t *Template) Encode(tok *tokenizer.Tokenizer, msgs []Message) ([]int32, error) {
	if err := checkMessages(msgs); err != nil {
		return nil, err
	}
	veil := new(veil)
	size := 256 * len(msgs) // bytes that the template may work with, a fourth of its limit
	list := make([]any, len(msgs))
	for i, m := range msgs {
		content, err := veil.hide(m.Content)
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		list[i] = map[string]any{"role": m.Role, "content": content}
		size += len(m.Role) + len(content)
	}
	bos, _ := tok.BOS()
	rendered, err := t.render(size, map[string]any{
		"messages":              list,
		"add_generation_prompt": true,
		"bos_token":             string(tok.Piece(bos)),
		"eos_token":             string(tok.Piece(tok.EOS())),
		"tools":                 nil,
		"documents":             nil,
	})
	if err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	text, literal := veil.lift(rendered)
	return tok.EncodeSpecial(text, literal), nil
}

// checkMessages refuses what no template should be asked to render.
func checkMessages(msgs []Message) error {
	if len(msgs) == 0 {
		return errors.New("messages: at least one is needed")
	}
	for i, m := range msgs {
		if !slices.Contains(roles, m.Role) {
			return fmt.Errorf("messages[%d].role: %.40q is not one of %q", i, m.Role, roles)
		}
	}
	return nil
}
