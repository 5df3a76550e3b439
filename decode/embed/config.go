package embed

import (
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
	headDimension int
}

// maxSize bounds every size of a configuration, so that products of two fit.
const maxSize = 1 << 24

func readConfig(dir string) (config, error) {
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
	c.headDimension = c.Hidden / c.Heads
	var err error
	if c.maxTokens, err = readMaxTokens(dir, c.Positions); err != nil {
		return c, err
	}
	return c, checkPooling(dir)
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

// checkPooling refuses a model whose vectors are not the mean of its tokens.
func checkPooling(dir string) error {
	var modes map[string]any
	path := filepath.Join("1_Pooling", "config.json")
	if err := readJSON(filepath.Join(dir, path), &modes); err != nil {
		return err
	}
	const mean = "pooling_mode_mean_tokens"
	for name, on := range modes {
		if on == true && name != mean && name != "include_prompt" {
			return fmt.Errorf("%s: %s: only %s is computed", path, name, mean)
		}
	}
	if modes[mean] != true {
		return fmt.Errorf("%s: %s is not set", path, mean)
	}
	return nil
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
