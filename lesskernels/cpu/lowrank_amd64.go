package cpu

// stateKernels are the assembly of low-rank states. Columns are done in whole
// registers; what is beyond is left to the portable form.
type stateKernels struct {
	lanes    int
	absorb8  func(h, psi *float32, v *uint16, n, rank, headDim, columns uintptr)
	absorb1  func(h, psi *float32, v *uint16, n, rank, headDim, columns uintptr)
	queryRow func(out, phi, h *float32, keep, weight float32, rank, headDim, columns uintptr)
	mix      func(x, y *float32, a, b float32, n uintptr)
}

var stateKernelsFor = [...]*stateKernels{
	AVX2:   {8, absorb8AVX2, absorb1AVX2, queryRowAVX2, mixAVX2},
	AVX512: {16, absorb8AVX512, absorb1AVX512, queryRowAVX512, mixAVX512},
}

// columns is how many of n columns the kernels do.
func (k *stateKernels) columns(n int) int {
	if k == nil {
		return 0
	}
	return n &^ (k.lanes - 1)
}

// absorbAssembly adds ψᵀ·v to the first columns of h and returns how many.
func absorbAssembly(isa ISA, h, psi []float32, v []uint16, rank, headDim int) int {
	k := stateKernelsFor[min(isa, AVX512)]
	columns := k.columns(headDim)
	if columns == 0 || len(psi) == 0 {
		return columns
	}
	n := uintptr(len(psi) / rank)
	for r := 0; r < rank; {
		kernel, features := k.absorb8, 8
		if rank-r < 8 {
			kernel, features = k.absorb1, 1
		}
		kernel(&h[r*headDim], &psi[r], &v[0], n, uintptr(rank), uintptr(headDim), uintptr(columns))
		r += features
	}
	return columns
}

// queryRowAssembly writes the first columns of out and returns how many.
func queryRowAssembly(isa ISA, out, phi, h []float32, keep, weight float32) int {
	k := stateKernelsFor[min(isa, AVX512)]
	columns := k.columns(len(out))
	if columns > 0 {
		k.queryRow(&out[0], &phi[0], &h[0], keep, weight, uintptr(len(phi)), uintptr(len(out)), uintptr(columns))
	}
	return columns
}

// mixAssembly mixes the first numbers of x and y and returns how many.
func mixAssembly(isa ISA, x, y []float32, a, b float32) int {
	k := stateKernelsFor[min(isa, AVX512)]
	n := k.columns(len(x))
	if n > 0 {
		k.mix(&x[0], &y[0], a, b, uintptr(n))
	}
	return n
}
