package cpu

import "math"

// rowsFor returns an instruction set's functions.
func rowsFor(isa ISA) *rowKernels {
	switch {
	case isa >= AVX512:
		return &avx512Rows
	case isa == AVX2:
		return &avx2Rows
	}
	return &portableRows
}

var avx512Rows = rowKernels{
	dot: func(a, b []float32) float32 {
		if len(a) == 0 {
			return 0
		}
		return dotAVX512(&a[0], &b[0], uintptr(len(a)))
	},
	axpy: func(dst []float32, a float32, x []float32) {
		if len(x) > 0 {
			axpyAVX512(&dst[0], a, &x[0], uintptr(len(x)))
		}
	},
	argmax: func(x []float32) (int, bool) {
		n := len(x) &^ 15
		best, ok := argmax(x[n:])
		if n == 0 {
			return best, ok
		}
		var peaks [16]float32
		var places [16]int32
		if !findMaxAVX512(&peaks[0], &places[0], &x[0], uintptr(n)) || !ok && n < len(x) {
			return 0, false
		}
		first := 0
		for lane, peak := range peaks {
			if at := int(places[lane]) + lane; peak > x[first] || peak == x[first] && at < first {
				first = at
			}
		}
		if n < len(x) && x[n+best] > x[first] {
			first = n + best
		}
		return first, true
	},
	above: func(x []float32, limit float32) int {
		n := len(x) &^ 15
		if n > 0 {
			if at := int(aboveAVX512(&x[0], uintptr(n), limit)); at < n {
				return at
			}
		}
		return n + above(x[n:], limit)
	},
	softmax: func(x []float32) {
		if len(x) == 0 {
			return
		}
		n := uintptr(len(x))
		peak := maxAVX512(&x[0], n)
		if math.IsInf(float64(peak), -1) {
			softmax(x) // nothing to see, or NaN
			return
		}
		scaleAVX512(&x[0], n, 1/expSumAVX512(&x[0], n, peak))
	},
	swiglu: func(dst, gate, up []float32) {
		if len(dst) > 0 {
			swigluAVX512(&dst[0], &gate[0], &up[0], uintptr(len(dst)))
		}
	},
	gelu: func(dst, x []float32) {
		if len(dst) > 0 {
			geluAVX512(&dst[0], &x[0], uintptr(len(dst)))
		}
	},
	rmsNorm: func(dst, x, w []float32, eps float32) {
		if len(dst) > 0 {
			rmsNormAVX512(&dst[0], &x[0], &w[0], uintptr(len(dst)), eps)
		}
	},
	layerNorm: func(dst, x, w, b []float32, eps float32) {
		if len(dst) > 0 {
			layerNormAVX512(&dst[0], &x[0], &w[0], &b[0], uintptr(len(dst)), eps)
		}
	},
	rope: func(x []float32, heads, headDim int, cos, sin []float32) {
		if headDim%16 != 0 || len(x) == 0 {
			rope(x, heads, headDim, cos, sin)
			return
		}
		ropeAVX512(&x[0], &cos[0], &sin[0], uintptr(heads), uintptr(headDim/2))
	},
	bf16: func(dst []uint16, src []float32) {
		n := len(src) &^ 15
		if n > 0 {
			bf16AVX512(&dst[0], &src[0], uintptr(n))
		}
		bf16(dst[n:], src[n:])
	},
	quantize: func(dst []uint32, x []float32, rows int) {
		if blocks := len(x) / blockLen; blocks > 0 {
			quantizeAVX512(&dst[0], &x[0], uintptr(rows), uintptr(blocks))
		}
	},
	quantizePair: func(dst []uint32, x []float32, rows int) {
		if blocks := len(x) / blockLen; blocks > 0 {
			quantizePairAVX512(&dst[0], &x[0], uintptr(rows), uintptr(blocks))
		}
	},
	quantizeLines: func(dst []uint32, x []float32, row int) {
		if blocks := len(x) / blockLen; blocks > 0 {
			quantizeLinesAVX512(&dst[0], &x[0], uintptr(row), uintptr(blocks))
		}
	},
	quantizePairLines: func(dst []uint32, x []float32, row int) {
		if blocks := len(x) / blockLen; blocks > 0 {
			quantizePairLinesAVX512(&dst[0], &x[0], uintptr(row), uintptr(blocks))
		}
	},
	quantizeWide: func(dst []uint32, x []float32, rows int) {
		if blocks := len(x) / wordBlock; blocks > 0 {
			quantizeWideAVX512(&dst[0], &x[0], uintptr(rows), uintptr(blocks))
		}
	},
	addPairs: func(dst []float32, stride int, src []float32, pairs int) {
		if pairs > 0 {
			_ = dst[(pairs-1)*stride+panelRows-1]
			addPairsAVX512(&dst[0], uintptr(stride), &src[0], uintptr(pairs))
		}
	},
	addRows: func(dst []float32, stride int, src []float32, n int) {
		if n > 0 {
			_ = dst[(n-1)*stride+panelRows-1]
			addRowsAVX512(&dst[0], uintptr(stride), &src[0], uintptr(n))
		}
	},
}
