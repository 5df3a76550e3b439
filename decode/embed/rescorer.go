package embed

import (
	"context"
	"math"

	"lessrag/lesskernels/cpu"
)

// Rescorer lets a second embedder say how near a question is to passages that another
// one found. It is safe for concurrent use.
type Rescorer struct{ model *Model }

// OpenRescorer loads the embedder in dir, as Open does.
func OpenRescorer(dir string, p *cpu.Pool) (*Rescorer, error) {
	m, err := Open(dir, p)
	return &Rescorer{m}, err
}

// Score returns the cosine of the question to every passage, all less the mean of the
// passages: what they have in common tells nothing, and embedders differ in how much that
// is. More is better.
func (r *Rescorer) Score(ctx context.Context, question string, passages []string) ([]float32, error) {
	asked, err := r.model.EmbedQuery(ctx, question)
	if err != nil {
		return nil, err
	}
	vectors, err := r.model.Embed(ctx, passages)
	if err != nil {
		return nil, err
	}
	return centredCosines(asked, vectors), nil
}

// Added tells that the scores are to be added to those of the search.
func (r *Rescorer) Added() bool { return true }

// centredCosines are the cosines of q to all v, less the mean of v; 0 where one is the mean.
func centredCosines(q []float32, v [][]float32) []float32 {
	mean := make([]float64, len(q))
	for _, x := range v {
		for i := range x {
			mean[i] += float64(x[i]) / float64(len(v))
		}
	}
	cosines := make([]float32, len(v))
	for k, x := range v {
		var dot, qq, xx float64
		for i, m := range mean {
			a, b := float64(q[i])-m, float64(x[i])-m
			dot, qq, xx = dot+a*b, qq+a*a, xx+b*b
		}
		if product := qq * xx; product > 1e-12 {
			cosines[k] = float32(dot / math.Sqrt(product))
		}
	}
	return cosines
}
