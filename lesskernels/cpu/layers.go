package cpu

import (
	"unsafe"

	"lessrag/lesskernels"
)

// twoLayers is gelu(gelu(x·W1)·W2) of one head, its weights in the order in
// which kernels read them, zeros where hidden values or features are padded.
type twoLayers struct {
	shape  lesskernels.FeatureShape
	order  layerOrder
	blocks int // of hidden values
	groups int // of eight features

	w1 []uint16  // [blocks, headDim, block] bf16
	w2 []float32 // [groups, blocks·block/lanes, 8, lanes]
}

// layerOrder is how an instruction set reads the weights.
type layerOrder struct {
	block int // hidden values of one column that lie together
	lanes int // hidden values that a register holds
}

// layerOrders are those of the instruction sets.
var layerOrders = [...]layerOrder{Portable: {16, 8}, AVX2: {16, 8}, AVX512: {64, 16}}

// featureGroup is how many features are summed at once.
const featureGroup = 8

// packTwoLayers packs w1 [headDim, hidden] and w2 [hidden, R].
func packTwoLayers(w1, w2 []float32, shape lesskernels.FeatureShape, isa ISA) twoLayers {
	l := twoLayers{shape: shape, order: layerOrders[min(isa, AVX512)]}
	l.blocks = (shape.Hidden + l.order.block - 1) / l.order.block
	l.groups = (shape.Rank + featureGroup - 1) / featureGroup
	first, second := l.blocks*shape.HeadDim*l.order.block, l.groups*featureGroup*l.hidden()
	memory := aligned(2*first + 4*second)
	l.w1 = unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(memory))), first)
	l.w2 = unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(memory[2*first:]))), second)
	for d := range shape.HeadDim {
		for i, x := range w1[d*shape.Hidden:][:shape.Hidden] {
			l.w1[(i/l.order.block*shape.HeadDim+d)*l.order.block+i%l.order.block] = toBF16(x)
		}
	}
	for i := range shape.Hidden {
		for r, x := range w2[i*shape.Rank:][:shape.Rank] {
			l.w2[l.feature(i, r)] = x
		}
	}
	return l
}

// hidden is how many hidden values there are, padding included.
func (l *twoLayers) hidden() int { return l.blocks * l.order.block }

// feature is where w2 holds the weight of a hidden value in a feature.
func (l *twoLayers) feature(hidden, r int) int {
	chunk := r/featureGroup*(l.hidden()/l.order.lanes) + hidden/l.order.lanes
	return (chunk*featureGroup+r%featureGroup)*l.order.lanes + hidden%l.order.lanes
}

func (l *twoLayers) bytes() int64 { return 2*int64(len(l.w1)) + 4*int64(len(l.w2)) }

// layerRows is how many rows are done at once: their hidden values stay in the
// nearest cache.
const layerRows = 24

// run writes n rows of R values from n rows of headDim values. Rows lie step
// rows apart, in dst as in x.
func (l *twoLayers) run(isa ISA, dst, x []float32, n, step int, s *Scratch) {
	rank, headDim, width := l.shape.Rank, l.shape.HeadDim, l.groups*featureGroup
	for from := 0; from < n; from += layerRows {
		rows := min(layerRows, n-from)
		buffer := s.floats(rows * (l.hidden() + width))
		hidden, features := buffer[:rows*l.hidden()], buffer[rows*l.hidden():]
		l.layers(isa, features, hidden, x[from*step*headDim:], rows, step)
		for i := range rows {
			copy(dst[(from+i)*step*rank:][:rank], features[i*width:])
		}
	}
}

// layers writes features [rows, groups·8] of the rows of x; hidden
// [rows, blocks·block] is scratch.
func (l *twoLayers) layers(isa ISA, features, hidden, x []float32, rows, step int) {
	if l.assembly(isa, features, hidden, x, rows, step) {
		return
	}
	for i := range rows {
		l.firstLayer(hidden[i*l.hidden():][:l.hidden()], x[i*step*l.shape.HeadDim:][:l.shape.HeadDim])
	}
	gelu(hidden, hidden)
	for i := range rows {
		l.secondLayer(features[i*l.groups*featureGroup:][:l.groups*featureGroup], hidden[i*l.hidden():][:l.hidden()])
	}
	gelu(features, features)
}

// firstLayer is the portable hidden = x·W1.
func (l *twoLayers) firstLayer(hidden, x []float32) {
	clear(hidden)
	for b := range l.blocks {
		block := hidden[b*l.order.block:][:l.order.block]
		for d, v := range x {
			for i, h := range l.w1[(b*len(x)+d)*l.order.block:][:l.order.block] {
				block[i] += v * fromBF16(h)
			}
		}
	}
}

// secondLayer is the portable features = hidden·W2.
func (l *twoLayers) secondLayer(features, hidden []float32) {
	for r := range features {
		sum := float32(0)
		for i, v := range hidden {
			sum += v * l.w2[l.feature(i, r)]
		}
		features[r] = sum
	}
}
