package cpu

import "math"

// assembly runs the kernels that fit the shape; false means that none does.
// The choice depends on the shape alone and not on what else is in a batch.
func (a attention) assembly(isa ISA, s *Scratch) bool {
	queries := len(a.visible) * a.group
	switch {
	case isa != AVX512 || a.headDim%16 != 0:
		return false
	case queries >= 8 || a.k.bf16 == nil || a.headDim%32 != 0:
		attendBlock(a, s)
		return true
	}
	for i, slots := range a.visible {
		for g := 0; g < a.group; g += 4 {
			row, end := i*a.group+g, i*a.group+min(g+4, a.group)
			attendRow(a.out[row*a.headDim:end*a.headDim], a.lse[row:end], a.q[row*a.headDim:end*a.headDim],
				a.k.bf16, a.v.bf16, a.headDim, int(slots), a.scale, s)
		}
	}
	return true
}

var (
	rowScores   = [...]func(scores *float32, stride uintptr, q *float32, k *uint16, headDim, slots uintptr){1: rowScores1AVX512, rowScores2AVX512, rowScores3AVX512, rowScores4AVX512}
	rowValues32 = [...]func(out, weights *float32, stride uintptr, v *uint16, headDim, slots uintptr){1: rowValues1x32AVX512, rowValues2x32AVX512, rowValues3x32AVX512, rowValues4x32AVX512}
	rowValues64 = [...]func(out, weights *float32, stride uintptr, v *uint16, headDim, slots uintptr){1: rowValues1x64AVX512, rowValues2x64AVX512, rowValues3x64AVX512, rowValues4x64AVX512}
)

// attendRow is the attention of up to four queries q [len(lse), headDim] that
// see the same slots. Scores are kept in powers of two.
func attendRow(out, lse, q []float32, k, v []uint16, headDim, slots int, scale float32, s *Scratch) {
	group := len(lse)
	if slots == 0 {
		hideAll(out, lse)
		return
	}
	stride := (slots + 15) &^ 15
	buffers := s.floats(2*group*headDim + group*stride)
	pairs, sums, scores := buffers[:group*headDim], buffers[group*headDim:2*group*headDim], buffers[2*group*headDim:]
	for g := range group {
		for c := 0; c < headDim; c += 32 {
			to, from := pairs[(c*group + g*32):][:32], q[g*headDim+c:][:32]
			for i := range 16 {
				to[i], to[16+i] = from[2*i]*(scale*math.Log2E), from[2*i+1]*(scale*math.Log2E)
			}
		}
	}
	if full := slots &^ 3; full > 0 {
		rowScores[group](&scores[0], uintptr(stride), &pairs[0], &k[0], uintptr(headDim), uintptr(full))
	}
	if full := slots &^ 3; full < slots { // the last rows, with room for four
		tail := s.keys(4 * headDim)
		copy(tail, k[full*headDim:slots*headDim])
		rowScores[group](&scores[full], uintptr(stride), &pairs[0], &tail[0], uintptr(headDim), 4)
	}
	var weight [4]float32
	for g := range group {
		row := scores[g*stride:][:slots]
		peak := maxAVX512(&row[0], uintptr(slots))
		sum := exp2SumAVX512(&row[0], uintptr(slots), peak)
		lse[g], weight[g] = naturalLSE(peak, sum), 1/sum
	}
	for c := 0; c < headDim; {
		dims, kernel := 64, rowValues64[group]
		if headDim-c < 64 {
			dims, kernel = 32, rowValues32[group]
		}
		kernel(&sums[0], &scores[0], uintptr(stride), &v[c], uintptr(headDim), uintptr(slots))
		for g := range group {
			for d := 0; d < dims; d += 32 {
				from, to := sums[g*dims+d:][:32], out[g*headDim+c+d:][:32]
				for i := range 16 {
					to[2*i], to[2*i+1] = from[i]*weight[g], from[16+i]*weight[g]
				}
			}
		}
		c += dims
	}
}

// naturalLSE turns a maximum in powers of two and a sum into a log-sum-exp.
func naturalLSE(peak, sum float32) float32 {
	return float32(math.Ln2 * (float64(peak) + math.Log2(float64(sum))))
}

const (
	lanes     = 16 // queries of a lane group
	slotTile  = 48 // slots whose keys and values are widened at a time
	slotStep  = 12 // slots that blockScoresAVX512 takes at once
	stateLen  = 3 * lanes
	startPeak = -1e30 // below every score, yet finite
)

// attendBlock is the attention of many queries: one in each lane.
func attendBlock(a attention, s *Scratch) {
	queries, headDim := len(a.visible)*a.group, a.headDim
	groups := (queries + lanes - 1) / lanes
	size := headDim * lanes // one lane group's queries or sums
	buffers := s.floats(groups*(2*size+stateLen) + 2*slotTile*headDim + slotTile*lanes)
	take := func(n int) []float32 {
		b := buffers[:n]
		buffers = buffers[n:]
		return b
	}
	columns, sums, states := take(groups*size), take(groups*size), take(groups*stateLen)
	keyTile, valueTile, scores := take(slotTile*headDim), take(slotTile*headDim), take(slotTile*lanes)
	clear(sums)
	clear(states)
	for i := range groups {
		rows := min(lanes, queries-i*lanes)
		transposeQueries(columns[i*size:(i+1)*size], a.q[i*lanes*headDim:][:rows*headDim], headDim, a.scale*math.Log2E)
		for lane := range lanes {
			states[i*stateLen+lane] = startPeak
		}
	}
	most := 0
	for _, n := range a.visible {
		most = max(most, int(n))
	}
	for first := 0; first < most; first += slotTile {
		n := min(slotTile, most-first)
		padded := (n + slotStep - 1) / slotStep * slotStep
		keys := a.k.tile(keyTile[:padded*headDim], first*headDim, n*headDim)
		values := a.v.tile(valueTile[:padded*headDim], first*headDim, n*headDim)
		for i := range groups {
			seen, some := tileVisible(a.visible, a.group, i*lanes, first)
			if !some {
				continue
			}
			state, sum := states[i*stateLen:][:stateLen], sums[i*size:][:size]
			blockScoresAVX512(&scores[0], &columns[i*size], &keys[0], uintptr(headDim), uintptr(padded))
			blockSoftmaxAVX512(&scores[0], &state[0], &seen[0], uintptr(padded))
			blockValuesAVX512(&sum[0], &scores[0], &values[0], &state[2*lanes], uintptr(headDim), uintptr(padded))
		}
	}
	for i := range groups {
		state, sum := states[i*stateLen:][:stateLen], sums[i*size:][:size]
		for lane := range min(lanes, queries-i*lanes) {
			row := i*lanes + lane
			finishLane(a.out[row*headDim:][:headDim], &a.lse[row], sum, state, lane)
		}
	}
}

// tile returns n numbers from first on as float32, followed by zeros up to the
// length of buffer, which it uses unless they lie there already.
func (r slotRows) tile(buffer []float32, first, n int) []float32 {
	switch {
	case r.bf16 != nil:
		widenAVX512(&buffer[0], &r.bf16[first], uintptr(n))
	case n == len(buffer):
		return r.f32[first : first+n]
	default:
		copy(buffer, r.f32[first:first+n])
	}
	clear(buffer[n:])
	return buffer
}

// tileVisible counts the slots of the tile from first on that each lane of the
// group from lane row on sees.
func tileVisible(visible []int32, group, row, first int) (seen [lanes]int32, some bool) {
	for lane := range seen {
		if i := (row + lane) / group; i < len(visible) {
			seen[lane] = max(visible[i]-int32(first), 0)
			some = some || seen[lane] > 0
		}
	}
	return seen, some
}

// transposeQueries writes rows q [n, headDim] times scale as [headDim, 16].
func transposeQueries(dst, q []float32, headDim int, scale float32) {
	clear(dst)
	for lane := range len(q) / headDim {
		for d, x := range q[lane*headDim:][:headDim] {
			dst[d*lanes+lane] = x * scale
		}
	}
}

// finishLane writes one query's output out of the sums [headDim, 16].
func finishLane(out []float32, lse *float32, sums, state []float32, lane int) {
	total := state[lanes+lane]
	if total == 0 {
		clear(out)
		*lse = float32(math.Inf(-1))
		return
	}
	*lse = naturalLSE(state[lane], total)
	weight := 1 / total
	for d := range out {
		out[d] = sums[d*lanes+lane] * weight
	}
}
