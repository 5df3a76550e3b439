package answer

import (
	"fmt"
	"strings"

	"lessrag/decode"
	"lessrag/retrieve"
)

// prompt is what the reader reads.
type prompt struct {
	tokens   []int32
	question int // of the last tokens: for caches that keep what the question needs
}

// prompt packs the passages into their token budget and writes the prompt.
// When it would leave no room in the model's context for the answer, earlier
// turns give way first, then the last passages.
func (s *Service) prompt(p plan, found []retrieve.Passage) (written prompt, kept []retrieve.Passage, err error) {
	kept, _ = retrieve.Pack(found, s.Engine.Tokenizer(), p.context)
	turns := p.turns
	for len(kept) > 0 {
		messages := retrieve.Prompt(p.text, kept, turns...)
		written.tokens, err = s.encode(messages)
		switch {
		case err != nil:
			return prompt{}, nil, err
		case len(written.tokens)+p.maxTokens <= p.room:
			written.question, err = s.asked(written.tokens, messages, p.text)
			return written, kept, err
		case len(turns) > 0:
			turns = turns[1:]
		default:
			kept = kept[:len(kept)-1]
		}
	}
	return prompt{}, nil, errNoRoom
}

// asked is how many last tokens of a prompt are its question and what the template
// adds: those after the place where the same prompt without a question differs.
func (s *Service) asked(tokens []int32, messages []retrieve.Message, question string) (int, error) {
	last := &messages[len(messages)-1]
	last.Content = strings.TrimSuffix(last.Content, question)
	without, err := s.encode(messages)
	if err != nil {
		return 0, err
	}
	same := 0
	for same < min(len(tokens), len(without)) && tokens[same] == without[same] {
		same++
	}
	return len(tokens) - same, nil
}

func (s *Service) encode(messages []retrieve.Message) ([]int32, error) {
	turns := make([]decode.Message, len(messages))
	for i, m := range messages {
		turns[i] = decode.Message(m)
	}
	prompt, err := s.Engine.Template().Encode(s.Engine.Tokenizer(), turns)
	if err != nil {
		return nil, fmt.Errorf("write the prompt: %w", err)
	}
	return prompt, nil
}
