package model

import "testing"

// What a step reads and computes follows from the model's shape.
func TestAccount(t *testing.T) {
	c := newCPU(t, tinyPath, Int8, Limits{Tokens: 10, Sequences: 3})
	m := c.Config()
	perLayer := 2*m.Heads*m.HeadDim*m.Width + 2*m.KVHeads*m.HeadDim*m.Width + 3*m.Hidden*m.Width
	if got, want := c.TokenTerms(), int64(m.Layers*perLayer); got != want {
		t.Errorf("%d multiplications for a token, want %d", got, want)
	}
	want := c.WeightBytes()
	if c.weights.output != c.weights.embedding {
		want -= c.weights.embedding.Bytes()
	}
	if got := c.StepBytes(); got != want {
		t.Errorf("a step reads %d bytes, want %d of %d", got, want, c.WeightBytes())
	}
	more := newCPU(t, tinyPath, Int8, Limits{Tokens: 20, Sequences: 3})
	if few, many := c.ScratchBytes(), more.ScratchBytes(); few < int64(4*10*m.Width) || many <= few {
		t.Errorf("scratch of %d bytes for 10 tokens and of %d for 20", few, many)
	}
}
