package cpu

import "math"

// attendKernels are the assembly of attention for one instruction set.
type attendKernels struct {
	lanes  int  // numbers in a register: queries of a lane group, or dimensions
	brains bool // blocks are done by the kernels of AVX512BF16

	widen        func(dst *float32, src *uint16, n uintptr)
	finite       func(x *uint16, n uintptr) bool
	blockScores  func(scores, q, k *float32, headDim, slots uintptr)
	blockSoftmax func(scores, state *float32, visible *int32, first int32, slots, hidden uintptr)
	blockValues  func(out, weights, v, factor *float32, headDim, slots uintptr)

	rowScores [maxRow + 1]func(scores *float32, stride uintptr, q *float32, k *uint16, headDim, slots uintptr)
	narrow    [maxRow + 1]rowValues // two registers of columns
	wide      [maxRow + 1]rowValues // four, where they fit
	max       func(x *float32, n uintptr) float32
	exp2Sum   func(x *float32, n uintptr, peak float32) float32

	columns   [Max + 1]columnKernels
	weights   func(columns, weights, peaks, lse *float32, slots uintptr)
	transpose func(dst, src, weights *float32, dstRow, srcRow, dstNext, srcNext, squares uintptr)
}

// rowValues writes out {[group]{even [lanes], odd [lanes]}} = weights · v.
type rowValues = func(out, weights *float32, stride uintptr, v *uint16, headDim, slots uintptr)

// maxRow is the most queries that share the reading of keys and values.
const maxRow = 4

var attendKernelsFor = [...]*attendKernels{
	AVX2: {
		8, false, widenAVX2, finiteAVX2, blockScoresAVX2, blockSoftmaxAVX2, blockValuesAVX2,
		[...]func(scores *float32, stride uintptr, q *float32, k *uint16, headDim, slots uintptr){1: rowScores1AVX2, rowScores2AVX2, rowScores3AVX2, rowScores4AVX2},
		[...]rowValues{1: rowValues1x16AVX2, rowValues2x16AVX2, rowValues3x16AVX2, rowValues4x16AVX2},
		[...]rowValues{1: rowValues1x32AVX2, rowValues2x32AVX2, rowValues3x32AVX2, nil},
		maxAVX2, exp2SumAVX2,
		[...]columnKernels{Sum: {blockSumsAVX2, reduceSumsAVX2, joinSumsAVX2}, Max: {blockPeaksAVX2, reducePeaksAVX2, joinPeaksAVX2}},
		weightColumnsAVX2,
		transposeAVX2,
	},
	AVX512:     &kernels512,
	AVX512BF16: &brains512,
	AMX:        &brains512,
}

var kernels512 = attendKernels{
	16, false, widenAVX512, finiteAVX512, blockScoresAVX512, blockSoftmaxAVX512, blockValuesAVX512,
	[...]func(scores *float32, stride uintptr, q *float32, k *uint16, headDim, slots uintptr){1: rowScores1AVX512, rowScores2AVX512, rowScores3AVX512, rowScores4AVX512},
	[...]rowValues{1: rowValues1x32AVX512, rowValues2x32AVX512, rowValues3x32AVX512, rowValues4x32AVX512},
	[...]rowValues{1: rowValues1x64AVX512, rowValues2x64AVX512, rowValues3x64AVX512, rowValues4x64AVX512},
	maxAVX512, exp2SumAVX512,
	[...]columnKernels{Sum: {blockSumsAVX512, reduceSumsAVX512, joinSumsAVX512}, Max: {blockPeaksAVX512, reducePeaksAVX512, joinPeaksAVX512}},
	weightColumnsAVX512,
	transposeAVX512,
}

// brains512 are those of AVX-512 with the blocks of BF16.
var brains512 = func() attendKernels {
	k := kernels512
	k.brains = true
	return k
}()

// attendKernels are the widest ones whose registers divide a head, nil if none
// do: a machine that has an instruction set has the lesser ones.
func (i ISA) attendKernels(headDim int) *attendKernels {
	for ; i > Portable; i-- {
		if k := attendKernelsFor[i]; headDim%k.lanes == 0 {
			return k
		}
	}
	return nil
}

// fewQueries is how many queries are done row by row, one less.
const fewQueries = 8

// assembly runs the kernels that fit the shape; false means that none does.
// The choice depends on the shape alone and not on what else is in a batch.
func (a attention) assembly(isa ISA, s *Scratch) bool {
	k := isa.attendKernels(a.headDim)
	queries := len(a.visible) * a.group
	switch {
	case k == nil:
		return false
	case queries == 0:
		return true
	case k.brains && a.k.bf16 != nil, a.block, queries >= fewQueries || a.k.bf16 == nil || a.headDim%(2*k.lanes) != 0:
		k.block(a, s)
		return true
	}
	for i, slots := range a.visible {
		for g := 0; g < a.group; g += maxRow {
			row, end := i*a.group+g, i*a.group+min(g+maxRow, a.group)
			k.row(a.out[row*a.headDim:end*a.headDim], a.lse[row:end], a.q[row*a.headDim:end*a.headDim],
				a.k.bf16, a.v.bf16, a.headDim, int(slots), a.scale, nil, nil, s)
		}
	}
	return true
}

// assemblyRow is one row of which the weights are wanted; false means that the
// kernel that assembly takes for the shape does not keep them.
func (a attention) assemblyRow(isa ISA, weights, peak []float32, s *Scratch) bool {
	k := isa.attendKernels(a.headDim)
	if k == nil || k.brains || a.group >= fewQueries || a.headDim%(2*k.lanes) != 0 {
		return false
	}
	slots := int(a.visible[0])
	for g := 0; g < a.group; g += maxRow {
		end := min(g+maxRow, a.group)
		k.row(a.out[g*a.headDim:end*a.headDim], a.lse[g:end], a.q[g*a.headDim:end*a.headDim],
			a.k.bf16, a.v.bf16, a.headDim, slots, a.scale, weights[g*slots:end*slots], peak[g:end], s)
	}
	return true
}

// row is the attention of up to four queries q [len(lse), headDim] that see the
// same slots. Scores are kept in powers of two. weights and peaks are those of
// AttendRow, or nil.
func (k *attendKernels) row(out, lse, q []float32, keys, values []uint16, headDim, slots int, scale float32, weights, peaks []float32, s *Scratch) {
	group := len(lse)
	if slots == 0 {
		hideAll(out, lse)
		clear(peaks)
		return
	}
	stride := (slots + lanes - 1) &^ (lanes - 1)
	buffers := s.floats(2*group*headDim + group*stride)
	pairs, sums, scores := buffers[:group*headDim], buffers[group*headDim:2*group*headDim], buffers[2*group*headDim:]
	k.pairQueries(pairs, q, headDim, scale*math.Log2E)
	k.scores(scores, pairs, keys, group, headDim, slots, stride, s)
	var weight [maxRow]float32
	for g := range group {
		row := scores[g*stride:][:stride]
		peak := k.max(&row[0], uintptr(stride))
		sum := k.exp2Sum(&row[0], uintptr(stride), peak)
		lse[g], weight[g] = naturalLSE(peak, sum), 1/sum
		if weights != nil {
			copy(weights[g*slots:(g+1)*slots], row)
			peaks[g] = peak * math.Ln2
		}
	}
	for c := 0; c < headDim; {
		columns, kernel := 4*k.lanes, k.wide[group]
		if headDim-c < columns || kernel == nil {
			columns, kernel = 2*k.lanes, k.narrow[group]
		}
		kernel(&sums[0], &scores[0], uintptr(stride), &values[c], uintptr(headDim), uintptr(slots))
		for g := range group {
			for d := 0; d < columns; d += 2 * k.lanes {
				from, to := sums[g*columns+d:][:2*k.lanes], out[g*headDim+c+d:][:2*k.lanes]
				for i := range k.lanes {
					to[2*i], to[2*i+1] = from[i]*weight[g], from[k.lanes+i]*weight[g]
				}
			}
		}
		c += columns
	}
}

// pairQueries writes queries [group, headDim] times scale in the order of
// rowScores: even and odd dimensions apart.
func (k *attendKernels) pairQueries(pairs, q []float32, headDim int, scale float32) {
	group, step := len(q)/headDim, 2*k.lanes
	for g := range group {
		for c := 0; c < headDim; c += step {
			to, from := pairs[c*group+g*step:][:step], q[g*headDim+c:][:step]
			for i := range k.lanes {
				to[i], to[k.lanes+i] = from[2*i]*scale, from[2*i+1]*scale
			}
		}
	}
}

// scores writes scores [group, stride] of the first slots, and −Inf beyond them.
func (k *attendKernels) scores(scores, pairs []float32, keys []uint16, group, headDim, slots, stride int, s *Scratch) {
	full := slots &^ 3
	if full > 0 {
		k.rowScores[group](&scores[0], uintptr(stride), &pairs[0], &keys[0], uintptr(headDim), uintptr(full))
	}
	if full < slots { // the last rows, with room for four
		tail := s.keys(4 * headDim)
		copy(tail, keys[full*headDim:slots*headDim])
		k.rowScores[group](&scores[full], uintptr(stride), &pairs[0], &tail[0], uintptr(headDim), 4)
	}
	for g := range group {
		for i := slots; i < stride; i++ {
			scores[g*stride+i] = float32(math.Inf(-1))
		}
	}
}

// naturalLSE turns a maximum in powers of two and a sum into a log-sum-exp.
func naturalLSE(peak, sum float32) float32 {
	return float32(math.Ln2*float64(peak) + logOf(float64(sum)))
}
