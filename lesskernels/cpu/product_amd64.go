package cpu

// productKernel adds a tile of a product to c; strides are in bytes.
type productKernel func(c *float32, cRow uintptr, a *float32, aRow, aCol uintptr, b *float32, bRow, n uintptr)

// productKernels are by rows of the tile, for 64 and 16 columns.
var productKernels = [...][2]productKernel{
	1: {product1x4AVX512, product1x1AVX512},
	2: {product2x4AVX512, product2x1AVX512},
	3: {product3x4AVX512, product3x1AVX512},
	4: {product4x4AVX512, product4x1AVX512},
	5: {product5x4AVX512, product5x1AVX512},
	6: {product6x4AVX512, product6x1AVX512},
}

// productDepth is how many terms are added at a time: 64 columns of b then
// stay in the first cache while all rows of a pass.
const productDepth = 128

func addProduct(isa ISA, c, a, b Strided, m, n, k int) {
	if isa < AVX512 {
		addProductPortable(c, a, b, m, n, k)
		return
	}
	whole := n &^ 15
	for from := 0; from < k; from += productDepth {
		terms := min(productDepth, k-from)
		for j := 0; j < whole; {
			kind, columns := 1, 16
			if j+64 <= whole {
				kind, columns = 0, 64
			}
			for i := 0; i < m; i += len(productKernels) - 1 {
				rows := min(len(productKernels)-1, m-i)
				productKernels[rows][kind](&c.Data[i*c.Row+j], 4*uintptr(c.Row), &a.Data[i*a.Row+from*a.Col],
					4*uintptr(a.Row), 4*uintptr(a.Col), &b.Data[from*b.Row+j], 4*uintptr(b.Row), uintptr(terms))
			}
			j += columns
		}
	}
	if whole < n {
		addProductPortable(Strided{c.Data[whole:], c.Row, 1}, a, Strided{b.Data[whole:], b.Row, 1}, m, n-whole, k)
	}
}

func geluSlopeFor(isa ISA, dst, slope, x []float32) {
	if isa < AVX512 || len(x) == 0 {
		geluSlope(dst, slope, x)
		return
	}
	geluSlopeAVX512(&dst[0], &slope[0], &x[0], uintptr(len(x)))
}
