package cpu

import "math"

// begin makes room for a segment's weights by lane groups that see so many slots.
func (w *segmentWeights) begin(lanes int, most []int32) {
	w.lanes, w.most = lanes, append(w.most[:0], most...)
	tiles := (w.slots + slotTile - 1) / slotTile
	w.values = w.room.floats(tiles * len(most) * (slotTile + 1) * lanes)
}

// tile is what a lane group gives the tile of slots that begins with first, where it sees
// any: weights [slotTile, lanes] in powers of two less peaks [lanes].
func (w *segmentWeights) tile(first, group int) (peaks, weights []float32) {
	size := (slotTile + 1) * w.lanes
	tile := w.values[(first/slotTile*len(w.most)+group)*size:][:size]
	return tile[:w.lanes], tile[w.lanes:]
}

// columns adds a segment's to dst.
func (w *Weights) columns(segment *segmentWeights, dst, lse []float32, s *Scratch) {
	lanes, groups := segment.lanes, len(segment.most)
	kernels := attendKernelsFor[AVX2]
	if lanes == kernels512.lanes {
		kernels = &kernels512
	}
	buffers := carver(s.floats(groups*lanes + slotTile*(lanes+1)))
	totals, sums, result := buffers.take(groups*lanes), buffers.take(slotTile*lanes), buffers.take(slotTile)
	for lane := range totals {
		totals[lane] = float32(math.Inf(1)) // it adds nothing
		if lane < len(lse) && !math.IsInf(float64(lse[lane]), -1) {
			totals[lane] = lse[lane] * math.Log2E
		}
	}
	for first := 0; first < len(dst); first += slotTile {
		n, seen := min(slotTile, len(dst)-first), false
		padded := (n + slotStep - 1) / slotStep * slotStep
		clear(sums)
		for i, most := range segment.most {
			if int(most) > first {
				peaks, weights := segment.tile(first, i)
				kernels.weights(&sums[0], &weights[0], &peaks[0], &totals[i*lanes], uintptr(padded))
				seen = true
			}
		}
		if seen {
			kernels.columns[Sum].reduce(&result[0], &sums[0], uintptr(padded))
			kernels.join(Sum, dst[first:][:n], result)
		}
	}
}
