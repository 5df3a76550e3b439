package cpu

import (
	"math"
	"slices"
	"unsafe"
)

const (
	lanes     = 16    // the most numbers in a register
	slotTile  = 48    // slots whose keys and values are made ready at a time
	slotStep  = 12    // slots that blockScores takes at once
	startPeak = -1e30 // below every score, yet finite
)

// carver cuts a buffer into pieces.
type carver []float32

func (c *carver) take(n int) []float32 {
	piece := (*c)[:n]
	*c = (*c)[n:]
	return piece
}

// block is the attention of many queries: one in each lane.
func (k *attendKernels) block(a attention, s *Scratch) {
	queries, headDim := len(a.visible)*a.group, a.headDim
	groups := (queries + k.lanes - 1) / k.lanes
	size := headDim * k.lanes // one lane group's queries or sums
	stateLen := 3 * k.lanes
	sight := k.sight(s, a.visible, a.group, queries)
	buffers := carver(s.floats(scorerLen(groups, headDim) + groups*(size+stateLen) + slotTile*(headDim+k.lanes)))
	scorer := k.newScorer(&buffers, groups, headDim, a.k.bf16 != nil)
	sums, states := buffers.take(groups*size), buffers.take(groups*stateLen)
	valueTile, pairs := buffers.take(slotTile*headDim), buffers.take(slotTile*k.lanes)
	if a.weights != nil {
		a.weights.begin(k.lanes, sight.most)
	}
	clear(sums)
	clear(states)
	for i := range groups {
		scorer.setQueries(i, a.q[i*k.lanes*headDim:], min(k.lanes, queries-i*k.lanes), 1, a.scale*math.Log2E)
		for lane := range k.lanes {
			states[i*stateLen+lane] = startPeak
		}
	}
	most := int(slices.Max(sight.most))
	for first := 0; first < most; first += slotTile {
		n := min(slotTile, most-first)
		padded := (n + slotStep - 1) / slotStep * slotStep
		scorer.setKeys(a.k, first, n, padded, s)
		v, spoilt := k.values(a.v, first, n, headDim, s)
		values := scorer.setValues(v, valueTile, n, padded, s)
		for i := range groups {
			if int(sight.most[i]) <= first {
				continue
			}
			hidden := max(0, first+padded-int(sight.least[i]))
			state, sum := states[i*stateLen:][:stateLen], sums[i*size:][:size]
			scores := pairs
			if a.weights != nil {
				_, scores = a.weights.tile(first, i)
			}
			scorer.score(scores, i, padded)
			scorer.weigh(sum, scores, pairs, values, state, sight.visible[i*k.lanes:], first, padded, hidden)
			if a.weights != nil {
				peaks, _ := a.weights.tile(first, i)
				copy(peaks, state[:k.lanes])
			}
			for _, at := range spoilt {
				k.spoil(sum, at%headDim, sight.visible[i*k.lanes:], first+at/headDim)
			}
		}
	}
	for i := range groups {
		row, end := i*k.lanes, min((i+1)*k.lanes, queries)
		k.finish(a.out[row*headDim:end*headDim], a.lse[row:end], sums[i*size:][:size], states[i*stateLen:][:stateLen], headDim)
	}
}

// values are n rows of r from the first on. Zeros replace bf16 numbers that are not
// finite, whose places it returns: a weight of zero would not hide them.
func (k *attendKernels) values(r slotRows, first, n, headDim int, s *Scratch) (slotRows, []int) {
	if r.bf16 == nil {
		return slotRows{f32: r.f32[first*headDim:][:n*headDim]}, nil
	}
	values := r.bf16[first*headDim:][:n*headDim]
	if k.finite(&values[0], uintptr(len(values))) {
		return slotRows{bf16: values}, nil
	}
	var spoilt []int
	values = slices.Clone(values)
	for i, x := range values {
		if x&0x7f80 == 0x7f80 {
			values[i], spoilt = 0, append(spoilt, i)
		}
	}
	return slotRows{bf16: values}, spoilt
}

// spoil makes NaN of one dimension of the lanes that see a slot.
func (k *attendKernels) spoil(sums []float32, dim int, visible []int32, slot int) {
	for lane := range k.lanes {
		if int(visible[lane]) > slot {
			sums[dim*k.lanes+lane] = float32(math.NaN())
		}
	}
}

// scorer computes products of a block with tiles of keys and values, in float32, or
// with brains from numbers of 16 bits: keys and queries rounded to integers times a
// scale each, values and their weights in bf16. What it computes of one query and
// one slot depends on nothing else.
type scorer struct {
	*attendKernels
	headDim int
	brains  bool
	queries []float32 // [groups][headDim, lanes]; brains: words [headDim/2, lanes] and scales [lanes]
	keys    []float32 // [slotTile, headDim]; brains: words [slotTile, headDim/2] and scales [slotTile]
	tile    []float32 // what keys were made in, or are
}

// scorerLen is the numbers that a scorer needs.
func scorerLen(groups, headDim int) int { return groups*(headDim+1)*lanes + slotTile*(headDim+1) }

func (k *attendKernels) newScorer(buffers *carver, groups, headDim int, bf16 bool) *scorer {
	return &scorer{attendKernels: k, headDim: headDim, brains: k.brains && bf16,
		queries: buffers.take(groups * (headDim + 1) * lanes), keys: buffers.take(slotTile * (headDim + 1))}
}

// group is the queries of a lane group.
func (r *scorer) group(i int) []float32 {
	n := r.headDim * r.lanes
	if r.brains {
		n = n/2 + r.lanes
	}
	return r.queries[i*n:][:n]
}

// setQueries makes n rows of q [headDim], step rows apart, times scale the queries of
// a lane group.
func (r *scorer) setQueries(i int, q []float32, n, step int, scale float32) {
	to := r.group(i)
	if !r.brains {
		r.transposeQueries(to, q, n, step, r.headDim, scale)
		return
	}
	square := r.keys[:r.headDim*r.lanes] // no keys yet
	r.transposeQueries(square, q, n, step, r.headDim, scale)
	wordQueriesBF16(asWords(to), &to[r.headDim/2*r.lanes], &square[0], uintptr(r.headDim))
}

// setKeys makes n slots from the first on, and zeros up to padded, the tile.
func (r *scorer) setKeys(keys slotRows, first, n, padded int, s *Scratch) {
	d := r.headDim
	if !r.brains {
		r.tile = r.widened(keys, r.keys[:padded*d], first*d, n*d)
		return
	}
	scales, words, whole := r.keys[slotTile*d/2:][:padded], r.keys[:padded*d/2], n&^3
	k := keys.bf16[first*d : (first+n)*d]
	if whole > 0 {
		wordKeysBF16(asWords(words), &scales[0], &k[0], uintptr(d), uintptr(whole))
	}
	for at := whole; at < padded; at += 4 { // with room for four
		tail := s.keys(4 * d)
		clear(tail[copy(tail, k[min(at, n)*d:]):])
		wordKeysBF16(asWords(words[at*d/2:]), &scales[at], &tail[0], uintptr(d), 4)
	}
}

// score writes the scores [padded, lanes] of a lane group and the tile.
func (r *scorer) score(dst []float32, i, padded int) {
	q, d := r.group(i), uintptr(r.headDim)
	if !r.brains {
		r.blockScores(&dst[0], &q[0], &r.tile[0], d, uintptr(padded))
		return
	}
	wordScoresBF16(&dst[0], asWords(q), &q[r.headDim/2*r.lanes], asWords(r.keys), &r.keys[slotTile*r.headDim/2], d, uintptr(padded))
}

// setValues returns values [padded, headDim] of n rows and zeros, or with brains
// pairs of them, in buffer where they have to be made.
func (r *scorer) setValues(v slotRows, buffer []float32, n, padded int, s *Scratch) []float32 {
	d := r.headDim
	if !r.brains {
		return r.widened(v, buffer[:padded*d], 0, n*d)
	}
	if n > 1 {
		pairValuesBF16(asWords(buffer), &v.bf16[0], uintptr(d), uintptr(n/2))
	}
	for at := n &^ 1; at < padded; at += 2 {
		tail := s.keys(2 * d)
		clear(tail[copy(tail, v.bf16[min(at, n)*d:]):])
		pairValuesBF16(asWords(buffer[at*d/2:]), &tail[0], uintptr(d), 1)
	}
	return buffer
}

// weigh turns scores into weights and adds the values that they weigh. What brains add
// them by are pairs.
func (r *scorer) weigh(sum, scores, pairs, values, state []float32, visible []int32, first, padded, hidden int) {
	factor, d, slots := &state[2*r.lanes], uintptr(r.headDim), uintptr(padded)
	if !r.brains {
		r.blockSoftmax(&scores[0], &state[0], &visible[0], int32(first), slots, uintptr(hidden))
		r.blockValues(&sum[0], &scores[0], &values[0], factor, d, slots)
		return
	}
	blockSoftmaxBF16(&scores[0], &state[0], &visible[0], int32(first), slots, uintptr(hidden), asWords(pairs))
	brainValuesBF16(&sum[0], asWords(pairs), asWords(values), factor, d, slots/2)
}

// asWords is a buffer as the words that kernels of BF16 keep in it.
func asWords(x []float32) *uint32 { return (*uint32)(unsafe.Pointer(&x[0])) }

// widened returns n numbers from first on as float32, followed by zeros up to the
// length of buffer, which it uses unless they lie there already.
func (k *attendKernels) widened(r slotRows, buffer []float32, first, n int) []float32 {
	switch {
	case r.bf16 != nil:
		k.widen(&buffer[0], &r.bf16[first], uintptr(n))
	case n == len(buffer):
		return r.f32[first : first+n]
	default:
		copy(buffer, r.f32[first:first+n])
	}
	clear(buffer[n:])
	return buffer
}

// transposeQueries writes n rows of q [headDim], step rows apart, times scale as
// [headDim, lanes].
func (k *attendKernels) transposeQueries(dst, q []float32, n, step, headDim int, scale float32) {
	if n == k.lanes {
		var scales [lanes]float32
		for i := range scales {
			scales[i] = scale
		}
		_ = q[(n-1)*step*headDim+headDim-1]
		k.transpose(&dst[0], &q[0], &scales[0], uintptr(n), uintptr(step*headDim), uintptr(n*n), uintptr(n), uintptr(headDim/n))
		return
	}
	clear(dst)
	for lane := range n {
		for d, x := range q[lane*step*headDim:][:headDim] {
			dst[d*k.lanes+lane] = x * scale
		}
	}
}

// finish writes the output out [n, headDim] and lse [n] of the queries of a lane
// group out of its sums [headDim, lanes].
func (k *attendKernels) finish(out, lse, sums, state []float32, headDim int) {
	var weights [lanes]float32
	for lane := range lse {
		if total := state[k.lanes+lane]; total == 0 {
			lse[lane] = float32(math.Inf(-1))
		} else {
			lse[lane], weights[lane] = naturalLSE(state[lane], total), 1/total
		}
	}
	if n := k.lanes; len(lse) == n {
		k.transpose(&out[0], &sums[0], &weights[0], uintptr(headDim), uintptr(n), uintptr(n), uintptr(n*n), uintptr(headDim/n))
	} else {
		for i := range out {
			out[i] = sums[i%headDim*k.lanes+i/headDim] * weights[i/headDim]
		}
	}
	for lane := range lse {
		if weights[lane] == 0 { // it saw nothing, not even a NaN
			clear(out[lane*headDim:][:headDim])
		}
	}
}
