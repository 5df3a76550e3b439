package model

import (
	"cmp"
	"math"
	"slices"
)

// blend64 is the oracle of Blend: the same prompt, plainly, in float64.
type blend64 struct {
	c      *CPU
	tokens []int32
	fixed  []bool          // [tokens] outside stored passages
	k, v   [][][][]float64 // [layers][kvHeads][tokens][headDim] stored, then computed
	rows   [][]int         // [layers] computed
	logits []float64
}

func row64(m interface{ Row([]float32, int) }, cols, i int) []float64 {
	x := make([]float32, cols)
	m.Row(x, i)
	return doubles(x)
}

func mul64(m interface {
	Row([]float32, int)
	Rows() int
	Cols() int
}, x []float64) []float64 {
	out := make([]float64, m.Rows())
	for i := range out {
		out[i] = dot64(row64(m, m.Cols(), i), x)
	}
	return out
}

func norm64(x []float64, weight []float32, epsilon float32) []float64 {
	y, scale := make([]float64, len(x)), 1/math.Sqrt(dot64(x, x)/float64(len(x))+float64(epsilon))
	for i := range x {
		y[i] = x[i] * scale * float64(weight[i])
	}
	return y
}

// square is the squared distance of two vectors.
func square(x, y []float64) float64 {
	sum := 0.0
	for i := range x {
		sum += (x[i] - y[i]) * (x[i] - y[i])
	}
	return sum
}

func newBlend64(c *CPU, tokens []int32, places []Place) *blend64 {
	o := &blend64{c: c, tokens: tokens, fixed: make([]bool, len(tokens))}
	for i := range o.fixed {
		o.fixed[i] = true
	}
	dim := c.config.HeadDim
	for layer := range c.config.Layers {
		var k, v [][][]float64
		for head := range c.config.KVHeads {
			hk, hv := make([][]float64, len(tokens)), make([][]float64, len(tokens))
			for _, p := range places {
				stored := &p.Passage.Heads[layer*c.config.KVHeads+head]
				for i := range p.Passage.Tokens {
					x := make([]float32, dim)
					c.widen(x, rowOf(stored.K, i, c.stored))
					hk[p.At+i] = c.turned(doubles(x), p.At-p.Passage.First)
					c.widen(x, rowOf(stored.V, i, c.stored))
					hv[p.At+i] = doubles(x)
					o.fixed[p.At+i] = false
				}
			}
			k, v = append(k, hk), append(v, hv)
		}
		o.k, o.v = append(o.k, k), append(o.v, v)
	}
	return o
}

// run computes the prompt, a share of the stored rows with it.
func (o *blend64) run(share float64) *blend64 {
	c, config := o.c, o.c.config
	n, dim, group := len(o.tokens), config.HeadDim, config.Group()
	candidates := 0
	x := make([][]float64, n)
	var rows []int
	for i := range x {
		x[i] = row64(c.weights.embedding, config.Width, int(o.tokens[i]))
		rows = append(rows, i)
		if !o.fixed[i] {
			candidates++
		}
	}
	for layer := range config.Layers {
		w := &c.weights.layers[layer]
		q := make([][]float64, n)
		apartK, apartV := make([]float64, n), make([]float64, n)
		sizeK, sizeV := 0.0, 0.0
		for _, p := range rows {
			normed := norm64(x[p], w.attentionNorm, config.Epsilon)
			q[p] = mul64(w.q, normed)
			k, v := mul64(w.k, normed), mul64(w.v, normed)
			for head := range config.Heads {
				copy(q[p][head*dim:], c.turned(q[p][head*dim:(head+1)*dim], p))
			}
			for head := range config.KVHeads {
				key, value := c.turned(k[head*dim:(head+1)*dim], p), v[head*dim:(head+1)*dim]
				if !o.fixed[p] {
					apartK[p] += square(key, o.k[layer][head][p])
					apartV[p] += square(value, o.v[layer][head][p])
					sizeK += dot64(key, key)
					sizeV += dot64(value, value)
				}
				o.k[layer][head][p], o.v[layer][head][p] = key, value
			}
		}
		if layer > 0 {
			along := 0.5
			if config.Layers > 2 {
				along = float64(layer-1) / float64(config.Layers-2)
			}
			keep := candidates
			if share < 1 {
				keep = int(math.Round(share * (1.25 - 0.5*along) * float64(candidates)))
			}
			var stored []int
			for _, p := range rows {
				if !o.fixed[p] {
					stored = append(stored, p)
				}
			}
			slices.SortFunc(stored, func(a, b int) int {
				return cmp.Or(cmp.Compare(apartK[b]/sizeK+apartV[b]/sizeV, apartK[a]/sizeK+apartV[a]/sizeV), cmp.Compare(b, a))
			})
			stay := stored[:min(keep, len(stored))]
			rows = slices.DeleteFunc(slices.Clone(rows), func(p int) bool { return !o.fixed[p] && !slices.Contains(stay, p) })
		}
		o.rows = append(o.rows, rows)
		for _, p := range rows {
			out := make([]float64, config.Heads*dim)
			for head := range config.Heads {
				logs := make([]float64, p+1)
				for i := range logs {
					logs[i] = dot64(q[p][head*dim:(head+1)*dim], o.k[layer][head/group][i]) / math.Sqrt(float64(dim))
				}
				copy(out[head*dim:], weigh(logs, o.v[layer][head/group][:p+1], dim).out)
			}
			for i, y := range mul64(w.o, out) {
				x[p][i] += y
			}
			normed := norm64(x[p], w.ffnNorm, config.Epsilon)
			gate, up := mul64(w.gate, normed), mul64(w.up, normed)
			for i, g := range gate {
				gate[i] = g / (1 + math.Exp(-g)) * up[i]
			}
			for i, y := range mul64(w.down, gate) {
				x[p][i] += y
			}
		}
	}
	o.logits = mul64(c.weights.output, norm64(x[n-1], c.weights.outputNorm, config.Epsilon))
	return o
}
