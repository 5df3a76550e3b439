package answer

import (
	"fmt"

	"lessrag/decode"
	"lessrag/retrieve"
)

// prompt packs the passages into their token budget and writes the prompt.
// When it would leave no room in the model's context for the answer, earlier
// turns give way first, then the last passages.
func (s *Service) prompt(p plan, found []retrieve.Passage) (prompt []int32, kept []retrieve.Passage, err error) {
	kept, _ = retrieve.Pack(found, s.Engine.Tokenizer(), p.context)
	turns := p.turns
	for len(kept) > 0 {
		prompt, err = s.encode(retrieve.Prompt(p.text, kept, turns...))
		switch {
		case err != nil:
			return nil, nil, err
		case len(prompt)+p.maxTokens <= p.room:
			return prompt, kept, nil
		case len(turns) > 0:
			turns = turns[1:]
		default:
			kept = kept[:len(kept)-1]
		}
	}
	return nil, nil, errNoRoom
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
