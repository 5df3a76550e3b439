package embed

import (
	"context"
	"fmt"
	"math"
	"slices"

	"lessrag/lesskernels/cpu"
)

// Reranker is a cross-encoder (Nogueira and Cho, arXiv 1901.04085): BERT reads
// a question and a passage together and says in one number how well they fit,
// as transformers' BertForSequenceClassification with one label does. It is
// safe for concurrent use.
type Reranker struct {
	name string
	runner
	pooler     []float32 // [hidden, hidden], on the first token's state; then a tanh
	poolerBias []float32 // [hidden]
	classifier []float32 // [hidden]
	bias       float32
}

// OpenReranker loads the cross-encoder in dir: config.json, tokenizer.json and
// model.safetensors. The pool stays the caller's.
func OpenReranker(dir string, p *cpu.Pool) (*Reranker, error) {
	r := new(Reranker)
	c, err := readShape(dir)
	if err == nil && c.Types < 2 {
		err = fmt.Errorf("config.json: type_vocab_size is %d: a question and a passage need 2", c.Types)
	}
	if err == nil {
		r.name, err = r.load(dir, c, p, "bert.", func(l *loader) {
			r.pooler = l.floats("bert.pooler.dense.weight", c.Hidden, c.Hidden)
			r.poolerBias = l.floats("bert.pooler.dense.bias", c.Hidden)
			r.classifier = l.floats("classifier.weight", 1, c.Hidden)
			if bias := l.floats("classifier.bias", 1); l.err == nil {
				r.bias = bias[0]
			}
		})
	}
	if err != nil {
		return nil, fmt.Errorf("reranker %s: %w", dir, err)
	}
	return r, nil
}

// Name identifies the weights, as an embedder's does.
func (r *Reranker) Name() string { return r.name }

// Added tells that the scores take the place of the search's.
func (r *Reranker) Added() bool { return false }

// Score returns for every passage how well it answers the question; more is
// better, and any value may come (the model's logit). When both do not fit into
// the model's positions, the end of the longer one is cut off.
func (r *Reranker) Score(ctx context.Context, question string, passages []string) ([]float32, error) {
	scores := make([]float32, 0, len(passages))
	limit := r.encoder.maxTokens
	asked := r.tokenizer.Encode(question, limit)
	pair := func(i int) text { return join(asked, r.tokenizer.Encode(passages[i], limit)[1:], limit) }
	err := r.run(ctx, len(passages), pair, func(spans []span) {
		for _, s := range spans {
			scores = append(scores, r.judge(r.encoder.scratch.x[s.start*r.encoder.Hidden:][:r.encoder.Hidden]))
		}
	})
	if err != nil {
		return nil, err
	}
	for i, s := range scores {
		if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
			return nil, fmt.Errorf("score passage %d: %w", i, errNotFinite)
		}
	}
	return scores, nil
}

// join puts [CLS] question [SEP] before passage [SEP] in at most limit tokens.
func join(question, passage []int32, limit int) text {
	separator := passage[len(passage)-1]
	cut := func(ids []int32, n int) []int32 {
		if len(ids) <= n {
			return ids
		}
		return append(slices.Clone(ids[:n-1]), separator)
	}
	passage = cut(passage, max(limit-len(question), (limit-1)/2))
	question = cut(question, limit-len(passage))
	return text{slices.Concat(question, passage), len(question)}
}

// judge turns the first token's last state into a score.
func (r *Reranker) judge(state []float32) float32 {
	h, score := len(state), r.bias
	for i, w := range r.classifier {
		pooled := float64(cpu.Dot(r.pooler[i*h:][:h], state) + r.poolerBias[i])
		score += w * float32(math.Tanh(pooled))
	}
	return score
}
