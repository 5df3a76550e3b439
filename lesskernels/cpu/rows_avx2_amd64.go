package cpu

import "math"

// avx2Rows are the functions of rows that a model computes for every token. Kernels take
// whole registers of eight numbers, and the portable forms what is left of a row.
var avx2Rows = rowKernels{
	dot:     dot256,
	axpy:    axpy256,
	argmax:  argmax,
	above:   above,
	softmax: softmax256,
	swiglu: func(dst, gate, up []float32) {
		n := len(dst) &^ 7
		if n > 0 {
			swigluAVX2(&dst[0], &gate[0], &up[0], uintptr(n))
		}
		swiglu(dst[n:], gate[n:], up[n:])
	},
	gelu: func(dst, x []float32) {
		n := len(dst) &^ 7
		if n > 0 {
			geluAVX2(&dst[0], &x[0], uintptr(n))
		}
		gelu(dst[n:], x[n:])
	},
	rmsNorm:   rmsNorm256,
	layerNorm: layerNorm,
	rope: func(x []float32, heads, headDim int, cos, sin []float32) {
		if headDim%8 != 0 || len(x) == 0 {
			rope(x, heads, headDim, cos, sin)
			return
		}
		ropeAVX2(&x[0], &cos[0], &sin[0], uintptr(heads), uintptr(headDim/2))
	},
	bf16: func(dst []uint16, src []float32) {
		n := len(src) &^ 15
		if n > 0 {
			bf16AVX2(&dst[0], &src[0], uintptr(n))
		}
		bf16(dst[n:], src[n:])
	},
	quantize: func(dst []uint32, x []float32, rows int) {
		if blocks := len(x) / blockLen; blocks > 0 {
			quantizeAVX2(&dst[0], &x[0], uintptr(rows), uintptr(blocks))
		}
	},
	quantizePair: func(dst []uint32, x []float32, rows int) {
		if blocks := len(x) / blockLen; blocks > 0 {
			quantizePairAVX2(&dst[0], &x[0], uintptr(rows), uintptr(blocks))
		}
	},
	quantizeWide: quantizeWide,
	addPairs: func(dst []float32, stride int, src []float32, pairs int) {
		if pairs > 0 {
			_ = dst[(pairs-1)*stride+panelRows-1]
			addPairsAVX2(&dst[0], uintptr(stride), &src[0], uintptr(pairs))
		}
	},
	addRows: func(dst []float32, stride int, src []float32, n int) {
		if n > 0 {
			_ = dst[(n-1)*stride+panelRows-1]
			addRowsAVX2(&dst[0], uintptr(stride), &src[0], uintptr(n))
		}
	},
}

func dot256(a, b []float32) float32 {
	n := len(a) &^ 31
	if n == 0 {
		return dot(a, b)
	}
	return dotAVX2(&a[0], &b[0], uintptr(n)) + dot(a[n:], b[n:])
}

func axpy256(dst []float32, a float32, x []float32) {
	n := len(x) &^ 7
	if n > 0 {
		axpyAVX2(&dst[0], a, &x[0], uintptr(n))
	}
	axpy(dst[n:], a, x[n:])
}

func softmax256(x []float32) {
	n := len(x) &^ 7
	if n == 0 {
		softmax(x)
		return
	}
	peak := maxAVX2(&x[0], uintptr(n))
	for _, v := range x[n:] {
		peak = max(peak, v)
	}
	if math.IsInf(float64(peak), -1) {
		softmax(x) // nothing to see, or NaN
		return
	}
	sum := expSumAVX2(&x[0], uintptr(n), peak)
	for i, v := range x[n:] {
		x[n+i] = float32(math.Exp(float64(v - peak)))
		sum += x[n+i]
	}
	scaleAVX2(&x[0], uintptr(n), 1/sum)
	for i := range x[n:] {
		x[n+i] /= sum
	}
}

func rmsNorm256(dst, x, w []float32, eps float32) {
	scale := float32(1 / math.Sqrt(float64(dot256(x, x))/float64(len(x))+float64(eps)))
	n := len(x) &^ 7
	if n > 0 {
		normAVX2(&dst[0], &x[0], &w[0], uintptr(n), scale)
	}
	for i, v := range x[n:] {
		dst[n+i] = v * scale * w[n+i]
	}
}
