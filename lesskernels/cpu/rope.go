package cpu

// RopeInterleaved rotates the pairs (2i, 2i+1) of every head of one row x
// [heads, headDim] by the angles of its position (arXiv 2104.09864), as llama
// models in GGUF are laid out. cos and sin [headDim/2] belong to the position.
func RopeInterleaved(x []float32, heads, headDim int, cos, sin []float32) {
	half := headDim / 2
	cos, sin = cos[:half], sin[:half]
	for h := range heads {
		row := x[h*headDim:][:2*half]
		for i, c := range cos {
			a, b, s := row[2*i], row[2*i+1], sin[i]
			row[2*i], row[2*i+1] = a*c-b*s, a*s+b*c
		}
	}
}
