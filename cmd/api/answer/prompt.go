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
	question int                // of the last tokens: for caches that keep what the question needs
	passages []retrieve.Passage // all that stand in it, by number
	bodies   []string           // as the reader sees them, in the order of the prompt
	given    int                // of them, those of earlier turns
	dropped  int                // found, and left out for want of room
}

// followShare is the part of the passages' token budget that a later turn may
// add to what the conversation has read.
const followShare = 4

// prompt packs the passages into their token budget and writes the prompt.
// What an earlier turn was given is not given again, and nothing new where that is what
// the question is about. When the prompt would
// leave no room in the model's context for the answer, earlier turns give way
// first, then the last passages.
func (s *Service) prompt(p plan, found []retrieve.Passage) (written prompt, err error) {
	for turns := p.turns; ; turns = turns[1:] {
		given := retrieve.Given(turns)
		fresh := retrieve.Beside(given, found)
		budget := p.context
		if len(given) > 0 && len(fresh) > 0 {
			budget = min(budget, max(budget/followShare, retrieve.Cost(fresh[0], s.Engine.Tokenizer())))
		}
		if retrieve.Told(given, found, p.text) {
			budget = 0
		}
		kept, _ := retrieve.Pack(fresh, s.Engine.Tokenizer(), budget)
		for n := len(kept); n > 0 || n == 0 && len(given) > 0; n-- {
			messages := retrieve.Prompt(p.text, kept[:n], turns...)
			written = prompt{passages: append(given, kept[:n]...), bodies: retrieve.Bodies(kept[:n], turns...), given: len(given), dropped: len(fresh) - n}
			if written.tokens, err = s.encode(messages); err != nil {
				return prompt{}, err
			}
			if len(written.tokens)+p.maxTokens <= p.room {
				written.question, err = s.asked(written.tokens, messages, p.text)
				return written, err
			}
			if len(turns) > 0 {
				break // the oldest of them gives way
			}
		}
		if len(turns) == 0 {
			return prompt{}, errNoRoom
		}
	}
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
	return Encode(s.Engine, messages)
}

// Encode writes messages as the reader reads them.
func Encode(engine *decode.Engine, messages []retrieve.Message) ([]int32, error) {
	turns := make([]decode.Message, len(messages))
	for i, m := range messages {
		turns[i] = decode.Message(m)
	}
	prompt, err := engine.Template().Encode(engine.Tokenizer(), turns)
	if err != nil {
		return nil, fmt.Errorf("write the prompt: %w", err)
	}
	return prompt, nil
}
