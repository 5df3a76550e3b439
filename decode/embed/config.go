package embed

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// config is the shape of a BERT encoder, as its config.json states it, and
// how sentence-transformers reads it.
type config struct {
	ModelType     string  `json:"model_type"`
	Activation    string  `json:"hidden_act"`
	PositionType  string  `json:"position_embedding_type"`
	Hidden        int     `json:"hidden_size"`
	Intermediate  int     `json:"intermediate_size"`
	Heads         int     `json:"num_attention_heads"`
	Layers        int     `json:"num_hidden_layers"`
	Positions     int     `json:"max_position_embeddings"`
	Types         int     `json:"type_vocab_size"`
	Vocabulary    int     `json:"vocab_size"`
	Epsilon       float32 `json:"layer_norm_eps"`
	maxTokens     int     // per text, [CLS] and [SEP] included
	first         bool    // a text's vector is that of its first token, [CLS], and not the mean of all
	query         string  // put before a question
	passage       string  // put before a passage
	headDimension int
}

// maxSize bounds every size of a configuration, so that products of two fit.
const maxSize = 1 << 24

// readConfig reads the shape of an encoder, and how sentence-transformers
// makes vectors with it.
func readConfig(dir string) (config, error) {
	c, err := readShape(dir)
	if err != nil {
		return c, err
	}
	if c.maxTokens, err = readMaxTokens(dir, c.Positions); err != nil {
		return c, err
	}
	if c.query, c.passage, err = readPrompts(dir); err != nil {
		return c, err
	}
	c.first, err = readPooling(dir)
	return c, err
}

// readShape reads config.json; texts may fill all positions.
func readShape(dir string) (config, error) {
	var c config
	if err := readJSON(filepath.Join(dir, "config.json"), &c); err != nil {
		return c, err
	}
	switch {
	case c.ModelType != "bert":
		return c, fmt.Errorf("config.json: model_type %q: only bert is read", c.ModelType)
	case c.Activation != "gelu":
		return c, fmt.Errorf("config.json: hidden_act %q: only gelu is read", c.Activation)
	case c.PositionType != "" && c.PositionType != "absolute":
		return c, fmt.Errorf("config.json: position_embedding_type %q: only absolute is read", c.PositionType)
	case !(c.Epsilon > 0):
		return c, fmt.Errorf("config.json: layer_norm_eps is %g", c.Epsilon)
	}
	for _, size := range []struct {
		name  string
		value int
	}{
		{"hidden_size", c.Hidden}, {"intermediate_size", c.Intermediate}, {"num_attention_heads", c.Heads},
		{"num_hidden_layers", c.Layers}, {"max_position_embeddings", c.Positions}, {"type_vocab_size", c.Types},
		{"vocab_size", c.Vocabulary},
	} {
		if size.value < 1 || size.value > maxSize {
			return c, fmt.Errorf("config.json: %s is %d", size.name, size.value)
		}
	}
	if c.Hidden%c.Heads != 0 {
		return c, fmt.Errorf("config.json: hidden_size %d is no multiple of num_attention_heads %d", c.Hidden, c.Heads)
	}
	c.headDimension, c.maxTokens = c.Hidden/c.Heads, c.Positions
	return c, nil
}

// readPrompts returns what config_sentence_transformers.json says that questions and
// passages begin with: prompts.query, and prompts.passage or prompts.document.
func readPrompts(dir string) (query, passage string, err error) {
	var s struct {
		Prompts map[string]string `json:"prompts"`
	}
	err = readJSON(filepath.Join(dir, "config_sentence_transformers.json"), &s)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return s.Prompts["query"], cmp.Or(s.Prompts["passage"], s.Prompts["document"]), err
}

// readMaxTokens returns max_seq_length of sentence_bert_config.json, which
// sentence-transformers applies in place of tokenizer.json's truncation.
func readMaxTokens(dir string, positions int) (int, error) {
	var s struct {
		MaxTokens int `json:"max_seq_length"`
	}
	err := readJSON(filepath.Join(dir, "sentence_bert_config.json"), &s)
	switch {
	case errors.Is(err, os.ErrNotExist):
		s.MaxTokens = positions
	case err != nil:
		return 0, err
	}
	if s.MaxTokens < 3 || s.MaxTokens > positions {
		return 0, fmt.Errorf("sentence_bert_config.json: max_seq_length is %d, the model has %d positions", s.MaxTokens, positions)
	}
	return s.MaxTokens, nil
}

// readPooling tells whether a text's vector is that of its first token; else
// it is the mean of all. It refuses every other way.
func readPooling(dir string) (first bool, err error) {
	var modes map[string]any
	path := filepath.Join("1_Pooling", "config.json")
	if err := readJSON(filepath.Join(dir, path), &modes); err != nil {
		return false, err
	}
	const mean, cls = "pooling_mode_mean_tokens", "pooling_mode_cls_token"
	for name, on := range modes {
		if on == true && name != mean && name != cls && name != "include_prompt" {
			return false, fmt.Errorf("%s: %s: only %s and %s are computed", path, name, mean, cls)
		}
	}
	if (modes[mean] == true) == (modes[cls] == true) {
		return false, fmt.Errorf("%s: exactly one of %s and %s must be set", path, mean, cls)
	}
	return modes[cls] == true, nil
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
