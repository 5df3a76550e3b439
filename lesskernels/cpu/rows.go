package cpu

// rowKernels are the functions of whole rows for one instruction set. Rows of
// one call have the same length; dst may be any of the sources.
type rowKernels struct {
	dot  func(a, b []float32) float32
	axpy func(dst []float32, a float32, x []float32)
	// argmax is the first of the highest values; false where one is a NaN.
	argmax func(x []float32) (int, bool)
	// above is the place of the first value that reaches a limit, or of another of its
	// sixteen; at least len(x) where there is none.
	above     func(x []float32, limit float32) int
	softmax   func(x []float32)
	swiglu    func(dst, gate, up []float32)
	gelu      func(dst, x []float32)
	rmsNorm   func(dst, x, w []float32, eps float32)
	layerNorm func(dst, x, w, b []float32, eps float32)
	rope      func(x []float32, heads, headDim int, cos, sin []float32)
	bf16      func(dst []uint16, src []float32)
	// quantize writes one token's row x in the integer form of a tile of that
	// many rows; dst begins at the token's first word. quantizePair writes what
	// the codes leave over beside it.
	quantize, quantizePair func(dst []uint32, x []float32, rows int)
	// quantizeLines and quantizePairLines write it, or both, in lines: as some row of the
	// tile with which dst begins. They are there where AMX is.
	quantizeLines, quantizePairLines func(dst []uint32, x []float32, row int)
	// quantizeWide writes it in the wide form.
	quantizeWide func(dst []uint32, x []float32, rows int)
	// addPairs adds rows of 16 values of src two by two; see Product.Pairs.
	addPairs func(dst []float32, stride int, src []float32, pairs int)
	// addRows adds rows of 16 values of src to those of dst; see Product.Add.
	addRows func(dst []float32, stride int, src []float32, n int)
}

// portableRows are the oracle.
var portableRows = rowKernels{dot, axpy, argmax, above, softmax, swiglu, gelu, rmsNorm, layerNorm, rope, bf16, quantize, quantizePair, nil, nil, quantizeWide, addPairs, addRows}

// rows are this machine's.
var rows = rowsFor(machine)

// Dot is Σ a·b over len(a) values.
func Dot(a, b []float32) float32 { return rows.dot(a, b[:len(a)]) }

// Axpy adds a·x to dst.
func Axpy(dst []float32, a float32, x []float32) { rows.axpy(dst[:len(x)], a, x) }

// ArgMax is the place of the highest value of x, the first of equal ones; false
// where x is empty or holds a NaN.
func ArgMax(x []float32) (int, bool) { return rows.argmax(x) }

// Softmax turns x into e^x / Σ e^x. A row of −Inf alone becomes zeros.
func Softmax(x []float32) { rows.softmax(x) }

// SwiGLU writes gate·sigmoid(gate) ⊙ up (arXiv 2002.05202) to dst, which may
// be either of them.
func SwiGLU(dst, gate, up []float32) { rows.swiglu(dst[:len(gate)], gate, up[:len(gate)]) }

// GELU writes x·Φ(x), the erf form (arXiv 1606.08415), to dst, which may be x.
func GELU(dst, x []float32) { rows.gelu(dst[:len(x)], x) }

// RMSNorm writes x / √(mean(x²) + eps) ⊙ w of one row (arXiv 1910.07467) to
// dst, which may be x.
func RMSNorm(dst, x, w []float32, eps float32) { rows.rmsNorm(dst[:len(x)], x, w[:len(x)], eps) }

// LayerNorm writes (x − mean) / √(variance + eps) ⊙ w + b of one row
// (arXiv 1607.06450) to dst, which may be x.
func LayerNorm(dst, x, w, b []float32, eps float32) {
	rows.layerNorm(dst[:len(x)], x, w[:len(x)], b[:len(x)], eps)
}

// RopeInterleaved rotates the pairs (2i, 2i+1) of every head of one row x
// [heads, headDim] by the angles of its position (arXiv 2104.09864), as llama
// models in GGUF are laid out. cos and sin [headDim/2] belong to the position.
func RopeInterleaved(x []float32, heads, headDim int, cos, sin []float32) {
	rows.rope(x[:heads*headDim], heads, headDim, cos[:headDim/2], sin[:headDim/2])
}

// BF16 rounds src to bfloat16, ties to even; a NaN stays a NaN.
// It writes len(src) values.
func BF16(dst []uint16, src []float32) { rows.bf16(dst[:len(src)], src) }
