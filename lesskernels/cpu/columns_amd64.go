package cpu

import (
	"math"
	"slices"
)

// columnKernels are the assembly of one reduction.
type columnKernels struct {
	block  func(columns, scores, lse *float32, visible *int32, first int32, slots uintptr)
	reduce func(dst, columns *float32, slots uintptr)
	join   func(dst, x *float32, n uintptr)
}

// assembly runs the kernels that fit the shape; false means that none does.
func (c columns) assembly(isa ISA, s *Scratch) bool {
	k := isa.attendKernels(c.headDim)
	switch {
	case k == nil:
		return false
	case len(c.visible) == 0:
		return true
	case k.brains && c.k.bf16 != nil, len(c.visible) >= fewQueries || c.k.bf16 == nil || c.headDim%(2*k.lanes) != 0:
		k.columnsBlock(c, s)
		return true
	}
	for i, slots := range c.visible {
		for g := 0; g < c.group && slots > 0; g += maxRow {
			k.columnsRow(c, i, g, min(g+maxRow, c.group), int(slots), s)
		}
	}
	return true
}

// columnsRow joins the weights of the query heads [from, to) of one row.
func (k *attendKernels) columnsRow(c columns, row, from, to, slots int, s *Scratch) {
	group, first, query := to-from, row*c.group+from, row*c.step+from
	stride := (slots + lanes - 1) &^ (lanes - 1)
	buffers := s.floats(group * (c.headDim + stride))
	pairs, scores := buffers[:group*c.headDim], buffers[group*c.headDim:]
	k.pairQueries(pairs, c.q[query*c.headDim:(query+group)*c.headDim], c.headDim, c.scale*math.Log2E)
	k.scores(scores, pairs, c.k.bf16, group, c.headDim, slots, stride, s)
	for g := range group {
		if lse := c.lse[first+g]; !math.IsInf(float64(lse), -1) {
			weights := scores[g*stride:][:stride]
			k.exp2Sum(&weights[0], uintptr(stride), lse*math.Log2E)
			k.join(c.reduce, c.dst[(from+g)*c.slots:][:slots], weights)
		}
	}
}

// raise is Raise with the kernels of an instruction set.
func raise(isa ISA, dst, x []float32) {
	whole := 0
	if k := attendKernelsFor[isa]; isa > Portable && len(dst) >= k.lanes {
		whole = len(dst) &^ (k.lanes - 1)
		k.columns[Max].join(&dst[0], &x[0], uintptr(whole))
	}
	raiseRow(dst[whole:], x[whole:])
}

// join joins dst with the first of the weights.
func (k *attendKernels) join(r Reduce, dst, weights []float32) {
	whole := len(dst) &^ (k.lanes - 1)
	if whole > 0 {
		k.columns[r].join(&dst[0], &weights[0], uintptr(whole))
	}
	for i := whole; i < len(dst); i++ {
		dst[i] = r.join(dst[i], weights[i])
	}
}

// columnsBlock joins the weights of many rows: those of one query head in the
// lanes of a group.
func (k *attendKernels) columnsBlock(c columns, s *Scratch) {
	rows := len(c.visible)
	groups := (rows + k.lanes - 1) / k.lanes // of each query head
	buffers := carver(s.floats(scorerLen(c.group*groups, c.headDim) + c.group*groups*k.lanes + slotTile*(2*k.lanes+1)))
	scorer := k.newScorer(&buffers, c.group*groups, c.headDim, c.k.bf16 != nil)
	lse, scores, sums, result := buffers.take(c.group*groups*k.lanes), buffers.take(slotTile*k.lanes), buffers.take(slotTile*k.lanes), buffers.take(slotTile)
	sight := s.newSight(c.group*groups, k.lanes)
	for i := range c.group * groups {
		g, row := i/groups, i%groups*k.lanes
		n := min(k.lanes, rows-row)
		scorer.setQueries(i, c.q[(row*c.step+g)*c.headDim:], n, c.step, c.scale*math.Log2E)
		for lane := range n {
			x := c.lse[(row+lane)*c.group+g]
			lse[i*k.lanes+lane] = x * math.Log2E
			if !math.IsInf(float64(x), -1) { // it sees nothing
				sight.visible[i*k.lanes+lane] = c.visible[row+lane]
			}
		}
	}
	sight.bound(k.lanes)
	most := int(slices.Max(sight.most))
	for first := 0; first < most; first += slotTile {
		n := min(slotTile, most-first)
		padded := (n + slotStep - 1) / slotStep * slotStep
		scorer.setKeys(c.k, first, n, padded, s)
		for g := range c.group {
			clear(sums)
			for i := range groups {
				at := g*groups + i
				if int(sight.most[at]) <= first {
					continue
				}
				scorer.score(scores, at, padded)
				k.columns[c.reduce].block(&sums[0], &scores[0], &lse[at*k.lanes], &sight.visible[at*k.lanes], int32(first), uintptr(padded))
			}
			k.columns[c.reduce].reduce(&result[0], &sums[0], uintptr(padded))
			k.join(c.reduce, c.dst[g*c.slots+first:][:n], result)
		}
	}
}
