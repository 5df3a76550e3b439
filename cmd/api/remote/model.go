// Package remote asks a model behind an OpenAI-compatible address. It serves
// the comparison of answers and nothing else: no document leaves this machine
// unless somebody asks for a comparison with it.
package remote

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// The environment variables that configure the remote model.
const (
	EnvURL         = "LESSRAG_REMOTE_URL"          // base address, as https://host/v1
	EnvModel       = "LESSRAG_REMOTE_MODEL"        // the model's name there
	EnvKey         = "LESSRAG_REMOTE_KEY"          // may be empty for a server that asks for none
	EnvPromptPrice = "LESSRAG_REMOTE_PROMPT_PRICE" // of a million prompt tokens, in a currency of your choice
	EnvAnswerPrice = "LESSRAG_REMOTE_ANSWER_PRICE" // of a million answer tokens
)

// Timeout ends an answer that has not been finished by then, retries included.
const Timeout = 2 * time.Minute

// Model is one remote model. It is safe for concurrent use.
type Model struct {
	name        string
	priced      bool
	promptPrice float64 // of a million tokens
	answerPrice float64
	chat        openai.ChatCompletionService
}

// FromEnvironment reads the configuration; nil without an error where none is
// given. The standard OPENAI_* variables are not looked at: a key that is there
// for something else must not send documents anywhere.
func FromEnvironment(getenv func(string) string) (*Model, error) {
	address, name := getenv(EnvURL), getenv(EnvModel)
	if address == "" && name == "" {
		return nil, nil
	}
	if address == "" || name == "" {
		return nil, fmt.Errorf("the remote model needs both %s and %s", EnvURL, EnvModel)
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("%s: %q is no address such as https://host/v1", EnvURL, address)
	}
	m := &Model{name: name}
	for _, price := range []struct {
		env string
		to  *float64
	}{{EnvPromptPrice, &m.promptPrice}, {EnvAnswerPrice, &m.answerPrice}} {
		text := getenv(price.env)
		if text == "" {
			continue
		}
		if *price.to, err = strconv.ParseFloat(text, 64); err != nil || !(*price.to >= 0 && *price.to < 1e9) {
			return nil, fmt.Errorf("%s: %q is no price of a million tokens", price.env, text)
		}
		m.priced = true
	}
	m.chat = openai.NewChatCompletionService(
		option.WithBaseURL(strings.TrimSuffix(address, "/")+"/"),
		option.WithAPIKey(getenv(EnvKey)),
	)
	return m, nil
}

// Name is the model's, as the server knows it.
func (m *Model) Name() string { return m.name }

// Message is one turn of a conversation.
type Message struct{ Role, Content string }

// Answer is what the model said and what it took. Token counts are the
// server's own; 0 where it reports none.
type Answer struct {
	Text             string
	FinishReason     string
	PromptTokens     int
	CompletionTokens int
	TTFT, Total      time.Duration // from the request to the first piece of text, and to the last
	Cost             *float64      // nil without prices or without counts
}

// StatusError is a refusal by the server.
type StatusError struct {
	Status  int
	Message string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the remote model answered %d: %s", e.Status, e.Message)
}

// ErrCut tells that the stream ended before the answer did.
var ErrCut = errors.New("the remote model's stream ended in the middle of the answer")

// Answer asks the model and passes every piece of its text on. The SDK tries
// again after refusals that may pass (408, 409, 429 and 5xx) and lost
// connections, twice. Errors: *StatusError, ErrCut, ctx's own or the network's.
func (m *Model) Answer(ctx context.Context, messages []Message, maxTokens int, temperature float64, text func(string)) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	params := openai.ChatCompletionNewParams{
		Model:         openai.ChatModel(m.name),
		MaxTokens:     openai.Int(int64(maxTokens)),
		Temperature:   openai.Float(temperature),
		StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)},
	}
	for _, message := range messages {
		turn, err := turnOf(message)
		if err != nil {
			return Answer{}, err
		}
		params.Messages = append(params.Messages, turn)
	}

	start := time.Now()
	stream := m.chat.NewStreaming(ctx, params)
	defer stream.Close()
	var a Answer
	var said strings.Builder
	for stream.Next() {
		chunk := stream.Current()
		if chunk.Usage.TotalTokens > 0 {
			a.PromptTokens, a.CompletionTokens = int(chunk.Usage.PromptTokens), int(chunk.Usage.CompletionTokens)
		}
		for _, choice := range chunk.Choices {
			if piece := choice.Delta.Content; piece != "" {
				if a.TTFT == 0 {
					a.TTFT = time.Since(start)
				}
				said.WriteString(piece)
				text(piece)
			}
			if choice.FinishReason != "" {
				a.FinishReason = choice.FinishReason
			}
		}
	}
	a.Text, a.Total = said.String(), time.Since(start)
	if err := stream.Err(); err != nil {
		return a, readable(err)
	}
	if a.FinishReason == "" {
		return a, ErrCut
	}
	if m.priced && a.PromptTokens > 0 {
		cost := (float64(a.PromptTokens)*m.promptPrice + float64(a.CompletionTokens)*m.answerPrice) / 1e6
		a.Cost = &cost
	}
	return a, nil
}

func turnOf(m Message) (openai.ChatCompletionMessageParamUnion, error) {
	switch m.Role {
	case "system":
		return openai.SystemMessage(m.Content), nil
	case "user":
		return openai.UserMessage(m.Content), nil
	case "assistant":
		return openai.AssistantMessage(m.Content), nil
	}
	return openai.ChatCompletionMessageParamUnion{}, fmt.Errorf("remote: no role %q", m.Role)
}

// maxMessage bounds what is repeated of a server's own words.
const maxMessage = 300

// readable says an SDK error in one line, without the request's insides.
func readable(err error) error {
	var refused *openai.Error
	if !errors.As(err, &refused) {
		return fmt.Errorf("ask the remote model: %w", err)
	}
	message := strings.Join(strings.Fields(refused.Message), " ")
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	if message == "" {
		message = "without a reason"
	}
	return &StatusError{Status: refused.StatusCode, Message: message}
}
