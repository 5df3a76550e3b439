package cpu

// mapKernels are the assembly of the feature maps.
type mapKernels struct {
	// hidden writes hidden [rows, blocks·block] for 1 to mapRows rows.
	hidden   [mapRows + 1]func(hidden, x *float32, step uintptr, w *uint16, headDim, blocks uintptr)
	features func(dst, hidden, w *float32, rows, chunks, groups uintptr)
	gelu     func(dst, x *float32, n uintptr)
}

// mapRows is the most rows that share the weights of a feature map.
const mapRows = 6

var mapKernelsFor = [...]*mapKernels{
	AVX2: {
		[...]func(hidden, x *float32, step uintptr, w *uint16, headDim, blocks uintptr){1: mapHidden1AVX2, mapHidden2AVX2, mapHidden3AVX2, mapHidden4AVX2, mapHidden5AVX2, mapHidden6AVX2},
		mapFeaturesAVX2, geluAVX2,
	},
	AVX512: {
		[...]func(hidden, x *float32, step uintptr, w *uint16, headDim, blocks uintptr){1: mapHidden1AVX512, mapHidden2AVX512, mapHidden3AVX512, mapHidden4AVX512, mapHidden5AVX512, mapHidden6AVX512},
		mapFeaturesAVX512, mapGELUAVX512,
	},
}

// assembly is layers in the instruction set's kernels; false means that it has none.
func (l *twoLayers) assembly(isa ISA, features, hidden, x []float32, rows, step int) bool {
	k := mapKernelsFor[min(isa, AVX512)]
	if k == nil {
		return false
	}
	headDim, width := l.shape.HeadDim, l.hidden()
	_ = x[(rows-1)*step*headDim+headDim-1]
	for i := range tileCount(rows, mapRows) {
		from, to := tileSpan(rows, mapRows, i)
		k.hidden[to-from](&hidden[from*width], &x[from*step*headDim], uintptr(step*headDim), &l.w1[0], uintptr(headDim), uintptr(l.blocks))
	}
	k.gelu(&hidden[0], &hidden[0], uintptr(len(hidden)))
	k.features(&features[0], &hidden[0], &l.w2[0], uintptr(rows), uintptr(width/l.order.lanes), uintptr(l.groups))
	k.gelu(&features[0], &features[0], uintptr(len(features)))
	return true
}
