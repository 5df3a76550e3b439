package ptx

func init() {
	for name, n := range map[string]int{"x1": 1, "x2": 2, "x4": 4} {
		opcodes["ldmatrix.sync.aligned.m8n8."+name+".shared.b16"] = loadMatrix(n, false)
		opcodes["ldmatrix.sync.aligned.m8n8."+name+".trans.shared.b16"] = loadMatrix(n, true)
	}
	opcodes["mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"] = multiplyAdd(fromBF16)
	opcodes["mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"] = multiplyAdd(fromF16)
}

// loadMatrix reads n matrices of 8 × 8 numbers of 16 bits: lane 8j+r names row r of the
// j-th, of which lane i gets row i/4, columns 2(i mod 4) and the next one; or, where the matrices
// are transposed, those of the transpose.
func loadMatrix(n int, transposed bool) decoder {
	return func(p *parser, operands []string) step {
		need(operands, 2)
		targets := p.targets(operands[0], 32)
		base, offset := p.address(operands[1])
		if len(targets) != n {
			refuse("%d registers for %d matrices", len(targets), n)
		}
		return func(w *warp, mask uint32) {
			together(mask, "a matrix loaded")
			var rows [32][]byte
			for i := range 8 * n { // all are read before any register is written
				rows[i] = w.shared.read(w.id, w.registers[base+i]+offset, 16)
			}
			for j, to := range targets {
				matrix := rows[8*j:]
				for lane := range 32 {
					r, c := lane/4, lane%4*2
					if transposed {
						w.registers[to+lane] = load(matrix[c][2*r:], 2) | load(matrix[c+1][2*r:], 2)<<16
					} else {
						w.registers[to+lane] = load(matrix[r][2*c:], 4)
					}
				}
			}
		}
	}
}

// multiplyAdd is d = a·b + c of a [16, 16] and b [16, 8] in bf16 or f16, whose numbers that are too small to be normal count
// (Fasi et al., Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science 7:e330), c and d [16, 8] in float32, spread over the lanes as the ISA draws it ("Matrix fragments for
// mma.m16n8k16"). Products are exact; their sum is taken in float32, in the order of the
// columns, where a card's order and rounding are its own.
func multiplyAdd(number func(uint64) float32) decoder {
	return func(p *parser, operands []string) step {
		need(operands, 4)
		d, a, b, c := p.targets(operands[0], 32), p.sources(operands[1]), p.sources(operands[2]), p.sources(operands[3])
		if len(d) != 4 || len(a) != 4 || len(b) != 2 || len(c) != 4 {
			refuse("fragments of %d, %d, %d and %d registers", len(d), len(a), len(b), len(c))
		}
		return func(w *warp, mask uint32) {
			together(mask, "a matrix product")
			var rows, columns [16][16]float32 // of a, and of b
			for lane := range 32 {
				r, k := lane/4, lane%4*2
				for i := range a { // rows below, then columns to the right
					v := w.registers[a[i]+lane]
					at := rows[r+i%2*8][k+i/2*8:]
					at[0], at[1] = number(v&0xffff), number(v>>16)
				}
				for i := range b {
					v := w.registers[b[i]+lane]
					at := columns[r][k+i*8:]
					at[0], at[1] = number(v&0xffff), number(v>>16)
				}
			}
			for lane := range 32 {
				for i := range d {
					row, column := &rows[lane/4+i/2*8], &columns[lane%4*2+i%2]
					sum := f32(w.registers[c[i]+lane])
					for k := range row {
						sum += row[k] * column[k]
					}
					w.registers[d[i]+lane] = bitsOf(sum)
				}
			}
		}
	}
}
