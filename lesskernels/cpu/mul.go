package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Mul writes dst [n, rows] = x · Wᵀ for the input's n rows of activations.
func (m *Matrix) Mul(p *Pool, dst []float32, in *Input) {
	MulAll(p, in, []*Matrix{m}, [][]float32{dst})
}

// MulAll multiplies one input with several matrices in one Run of the pool:
// dst[i] [n, rows of ms[i]]. All have the input's columns.
func MulAll(p *Pool, in *Input, ms []*Matrix, dst [][]float32) {
	if in.n == 0 {
		return
	}
	work := make([]span, 0, 64)
	for i, m := range ms {
		if in.cols != m.cols || len(dst[i]) < in.n*m.rows {
			panic(fmt.Sprintf("cpu: product of input [%d, %d] with matrix [%d, %d] into %d values",
				in.n, in.cols, m.rows, m.cols, len(dst[i])))
		}
		in.form(p, m.layout.integer(), m.isa)
		work = m.split(work, i, in.n, p.threads)
	}
	p.Run(len(work), func(task int) {
		s := work[task]
		ms[s.matrix].mulPanels(dst[s.matrix], in, s.from, s.to)
	})
}

// span is a task: panels [from, to) of one matrix.
type span struct{ matrix, from, to int }

// taskMicros is the length of a task: far above the cost of handing it out,
// far below the time that a slow core would make the others wait.
const taskMicros = 40

// split appends the tasks of a product with n tokens.
func (m *Matrix) split(work []span, matrix, n, threads int) []span {
	panels := m.panels()
	micros := float64(len(m.data))/15e3 + float64(m.rows)*float64(m.cols)*float64(n)/m.isa.macsPerMicro()
	tasks := int(micros / taskMicros)
	if micros > 10 {
		tasks = max(tasks, threads)
	}
	tasks = min(max(tasks, 1), panels)
	for i := range tasks {
		work = append(work, span{matrix, i * panels / tasks, (i + 1) * panels / tasks})
	}
	return work
}

// macsPerMicro is a rough rate of multiply-adds of one core, for task sizes.
func (i ISA) macsPerMicro() float64 {
	return [...]float64{Portable: 1e3, AVX2: 50e3, AVX512: 100e3}[i]
}

// width is the most tokens that the instruction set's kernels take at once,
// with integer or float activations.
func (i ISA) width(integer bool) int {
	switch {
	case i == AVX512:
		return 12
	case i == AVX2 && !integer:
		return 6
	}
	return 4
}

// mulPanels multiplies panels [from, to) with every tile of the input.
func (m *Matrix) mulPanels(dst []float32, in *Input, from, to int) {
	t := &in.floats
	if m.layout.integer() {
		t = &in.ints
	}
	size := in.tokenWords(m.layout.integer())
	var edge []float32 // the last panel's product when it has rows to spare
	for panel := from; panel < to; panel++ {
		rows := min(panelRows, m.rows-panel*panelRows)
		if rows < panelRows && edge == nil {
			edge = make([]float32, t.width*panelRows)
		}
		for i := range tileCount(in.n, t.width) {
			first, end := tileSpan(in.n, t.width, i)
			words := t.words[first*size : end*size]
			if rows == panelRows {
				m.mulTile(dst[first*m.rows+panel*panelRows:], m.rows, words, end-first, m.at(panel))
				continue
			}
			m.mulTile(edge, panelRows, words, end-first, m.at(panel))
			for token := first; token < end; token++ {
				copy(dst[token*m.rows+panel*panelRows:][:rows], edge[(token-first)*panelRows:])
			}
		}
	}
}

// mulTile writes the 16 products of a panel with each of n tokens to dst, one
// token every stride values.
func (m *Matrix) mulTile(dst []float32, stride int, x []uint32, n int, panel []byte) {
	if m.mulAssembly(dst, stride, x, n, panel) {
		return
	}
	switch m.layout {
	case floats, halves, brains:
		mulFloats(m.layout, dst, stride, x, n, panel, m.cols)
	default:
		mulCodes(m.layout, dst, stride, x, n, panel, m.cols/blockLen)
	}
}

// mulFloats is the portable product with plain numbers.
func mulFloats(l layout, dst []float32, stride int, x []uint32, n int, panel []byte, cols int) {
	for i := range n {
		var sum [panelRows]float32
		for c := range cols {
			v := math.Float32frombits(x[c*n+i])
			switch l {
			case floats:
				w := panel[c*64:][:64]
				for r := range sum {
					sum[r] += v * math.Float32frombits(binary.LittleEndian.Uint32(w[r*4:]))
				}
			case halves:
				for r := range sum {
					sum[r] += v * half(panel[c*32+r*2:])
				}
			default:
				for r := range sum {
					sum[r] += v * fromBF16(binary.LittleEndian.Uint16(panel[c*32+r*2:]))
				}
			}
		}
		copy(dst[i*stride:], sum[:])
	}
}

// mulCodes is the portable product of quantised weights with int8 activations:
// y += d·scale·(Σ q·x + bias) or, with a stored minimum, d·scale·Σ q·x + m·sum.
// Where each half of a block has its scale, both are done so.
func mulCodes(l layout, dst []float32, stride int, x []uint32, n int, panel []byte, blocks int) {
	var codes [blockLen]uint8
	for i := range n {
		clear(dst[i*stride:][:panelRows])
	}
	for b := range blocks {
		record := x[b*n*intWords:][:n*intWords]
		for r := range panelRows {
			d, m := l.block(&codes, panel, b, r)
			for i := range n {
				first, second := mulHalf(codes[:16], record[i:], n), mulHalf(codes[16:], record[4*n+i:], n)
				scale, bias := math.Float32frombits(record[8*n+i]), int32(record[9*n+i])
				y := &dst[i*stride+r]
				switch l {
				case nibbles:
					*y += d[0] * (float32(first+second+bias) * scale)
				case octets:
					*y += d[0] * (float32(first+second+bias<<4) * scale)
				case octetsHalves:
					firstBias := int32(record[11*n+i])
					*y += d[0] * (float32(first+firstBias<<4) * scale)
					*y += d[1] * (float32(second+(bias-firstBias)<<4) * scale)
				default:
					*y += d[0]*(float32(first+second)*scale) + m[0]*math.Float32frombits(record[10*n+i])
				}
			}
		}
	}
}

// mulHalf is Σ q·x over 16 codes and four words of activations, n apart.
func mulHalf(codes []uint8, x []uint32, n int) int32 {
	dot := int32(0)
	for g := range 4 {
		w, q := x[g*n], codes[g*4:][:4]
		dot += int32(q[0])*int32(int8(w)) + int32(q[1])*int32(int8(w>>8)) +
			int32(q[2])*int32(int8(w>>16)) + int32(q[3])*int32(int8(w>>24))
	}
	return dot
}
