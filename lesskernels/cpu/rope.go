package cpu

// rope is the portable RopeInterleaved.
func rope(x []float32, heads, headDim int, cos, sin []float32) {
	half := headDim / 2
	for h := range heads {
		row := x[h*headDim:][:2*half]
		for i, c := range cos {
			a, b, s := row[2*i], row[2*i+1], sin[i]
			row[2*i], row[2*i+1] = a*c-b*s, a*s+b*c
		}
	}
}
