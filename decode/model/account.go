package model

import "lessrag/lesskernels/cpu"

// ScratchBytes is the memory of a forward pass beside weights and caches, taken
// once for the largest batch. What kernels keep for themselves is not counted.
func (c *CPU) ScratchBytes() int64 {
	a := &c.activations
	values := 0
	for _, buffer := range [][]float32{a.x, a.normed, a.q, a.k, a.v, a.attention, a.lse, a.before, a.blockColumns, a.gate, a.up, a.cos, a.sin, a.out} {
		values += cap(buffer)
	}
	return 4*int64(values) + 2*int64(cap(a.blockK)+cap(a.blockV))
}

// StepBytes is what every pass reads of the weights: the layers' matrices and the
// output's, as they are packed.
func (c *CPU) StepBytes() int64 {
	total := c.weights.output.Bytes()
	for _, m := range c.weights.layerMatrices() {
		total += m.Bytes()
	}
	return total
}

// TokenTerms is how many multiplications with weights of layers a token takes:
// what a prompt's token costs but for attention.
func (c *CPU) TokenTerms() int64 {
	var terms int64
	for _, m := range c.weights.layerMatrices() {
		terms += int64(m.Rows()) * int64(m.Cols())
	}
	return terms
}

// layerMatrices are the matrices of all layers.
func (w *weights) layerMatrices() []*cpu.Matrix {
	var all []*cpu.Matrix
	for i := range w.layers {
		l := &w.layers[i]
		all = append(all, l.q, l.k, l.v, l.o, l.gate, l.up, l.down)
	}
	return all
}
