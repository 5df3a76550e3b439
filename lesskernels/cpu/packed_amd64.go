package cpu

import (
	"math"
)

// packedKernels are the assembly of attention over packed groups, by the number of
// queries that share the reading.
type packedKernels struct {
	keys   [maxRow + 1]func(scores *float32, stride uintptr, q, work *float32, groups *uint16, rows, n, size uintptr)
	values [maxRow + 1]func(out, weights *float32, stride uintptr, work *float32, codes, scales, minima *uint16, n, size uintptr)
	unpack func(dst *float32, stride uintptr, work *float32, codes, scales, minima *uint16, rows uintptr)
}

var packedKernelsFor = map[int]*packedKernels{
	2: {
		keys:   [...]func(*float32, uintptr, *float32, *float32, *uint16, uintptr, uintptr, uintptr){1: packedKeys1x2AVX512, packedKeys2x2AVX512, packedKeys3x2AVX512, packedKeys4x2AVX512},
		values: [...]func(*float32, *float32, uintptr, *float32, *uint16, *uint16, *uint16, uintptr, uintptr){1: packedValues1x2AVX512, packedValues2x2AVX512, packedValues3x2AVX512, packedValues4x2AVX512},
		unpack: unpack2AVX512,
	},
	4: {
		keys:   [...]func(*float32, uintptr, *float32, *float32, *uint16, uintptr, uintptr, uintptr){1: packedKeys1x4AVX512, packedKeys2x4AVX512, packedKeys3x4AVX512, packedKeys4x4AVX512},
		values: [...]func(*float32, *float32, uintptr, *float32, *uint16, *uint16, *uint16, uintptr, uintptr){1: packedValues1x4AVX512, packedValues2x4AVX512, packedValues3x4AVX512, packedValues4x4AVX512},
		unpack: unpack4AVX512,
	},
	16: {
		keys:   [...]func(*float32, uintptr, *float32, *float32, *uint16, uintptr, uintptr, uintptr){1: packedKeys1x16AVX512, packedKeys2x16AVX512, packedKeys3x16AVX512, packedKeys4x16AVX512},
		values: [...]func(*float32, *float32, uintptr, *float32, *uint16, *uint16, *uint16, uintptr, uintptr){1: packedValues1x16AVX512, packedValues2x16AVX512, packedValues3x16AVX512, packedValues4x16AVX512},
		unpack: unpack16AVX512,
	},
}

// packedRow is up to four queries over packed slots: their scores and what the
// kernels work in.
type packedRow struct {
	PackedSlots
	*packedKernels
	queries       int
	stride        int       // of scores and weights
	scores        []float32 // [queries, stride], in powers of two
	peak          [maxRow]float32
	q, work, sums []float32
}

// row returns room for the rows of so many queries.
func (p PackedSlots) row(queries int, s *Scratch) packedRow {
	r := packedRow{PackedSlots: p, packedKernels: packedKernelsFor[p.Bits], queries: queries, stride: p.len() * PackTokens}
	wide := r.queryStride()
	buffers := s.floats(queries * (r.stride + 2*max(wide, packLanes) + packLanes))
	take := func(n int) []float32 {
		b := buffers[:n]
		buffers = buffers[n:]
		return b
	}
	r.scores, r.q, r.work, r.sums = take(queries*r.stride), take(queries*max(wide, packLanes)), take(queries*max(wide, packLanes)), take(queries*packLanes)
	return r
}

// queryStride is the rows of keys in whole registers.
func (p PackedSlots) queryStride() int { return (p.keyRows() + 15) &^ 15 }

// size is the bytes of a group.
func (p PackedSlots) size() uintptr { return uintptr(2 * p.Words()) }

// score fills scores from q [queries, headDim].
func (r *packedRow) score(q []float32, headDim int, scale float32) {
	wide := r.queryStride()
	r.gather(r.q[:r.queries*wide], q, r.queries, wide, headDim, scale*math.Log2E)
	r.keys[r.queries](&r.scores[0], uintptr(r.stride), &r.q[0], &r.work[0], &r.Groups[0], uintptr(r.keyRows()), uintptr(r.len()), r.size())
}

// fewPacked is how many queries meet the codes themselves at most: unpacking costs
// as much as some of them.
const fewPacked = 16

// few tells whether so many queries meet the codes themselves.
func (p PackedSlots) few(isa ISA, heads int) bool {
	return isa >= AVX512 && heads <= fewPacked && p.len() > 0
}

// attendAssembly runs the kernels on a few queries; false means that they are many or
// that there are none for this machine. The output is still rotated. The choice does not depend on what else is in
// a batch. weights and peak are nil, or for one row what AttendRow leaves in them.
func (p PackedSlots) attendAssembly(isa ISA, out, lse, weights, peak, q []float32, group, headDim int, scale float32, s *Scratch) bool {
	if !p.few(isa, len(lse)) {
		return false
	}
	for i := 0; i < len(lse); i += group {
		for g := 0; g < group; g += maxRow {
			first, last := i+g, i+min(g+maxRow, group)
			r := p.row(last-first, s)
			r.score(q[first*headDim:], headDim, scale)
			r.attend(out[first*headDim:last*headDim], lse[first:last], headDim)
			if weights != nil {
				copy(weights[first*r.stride:], r.scores)
				copy(peak[first:], r.peak[:r.queries])
			}
		}
	}
	return true
}

// attend turns the scores into weights and sums the values up.
func (r *packedRow) attend(out, lse []float32, headDim int) {
	k := attendKernelsFor[AVX512]
	var share [maxRow]float32
	for g := range r.queries {
		row := r.scores[g*r.stride:][:r.stride]
		peak := k.max(&row[0], uintptr(r.stride))
		sum := k.exp2Sum(&row[0], uintptr(r.stride), peak)
		lse[g], share[g], r.peak[g] = naturalLSE(peak, sum), 1/sum, math.Ln2*peak
	}
	rows := r.blocks() * PackTokens
	codes, scales, minima := r.rows(r.Groups[r.keyWords():], rows)
	for b := range r.blocks() {
		at := b * PackTokens
		r.values[r.queries](&r.sums[0], &r.scores[0], uintptr(r.stride), &r.work[0], &codes[at*r.rowWords()], &scales[at], &minima[at], uintptr(r.len()), r.size())
		for g := range r.queries {
			to := out[g*headDim+b*packLanes : g*headDim+min(r.Values, (b+1)*packLanes)]
			for c := range to {
				to[c] = r.sums[g*packLanes+c] * share[g]
			}
		}
	}
}

// columnsAssembly is attendAssembly for statistics.
func (p PackedSlots) columnsAssembly(isa ISA, dst, q, lse []float32, group, headDim int, scale float32, reduce Reduce, s *Scratch) bool {
	if !p.few(isa, len(lse)) {
		return false
	}
	k := attendKernelsFor[AVX512]
	for i := 0; i < len(lse); i += group {
		for g := 0; g < group; g += maxRow {
			first, last := i+g, i+min(g+maxRow, group)
			r := p.row(last-first, s)
			r.score(q[first*headDim:], headDim, scale)
			for j := range r.queries {
				if x := lse[first+j]; !math.IsInf(float64(x), -1) {
					weights := r.scores[j*r.stride:][:r.stride]
					k.exp2Sum(&weights[0], uintptr(r.stride), x*math.Log2E)
					k.join(reduce, dst[(g+j)*r.stride:][:r.stride], weights)
				}
			}
		}
	}
	return true
}

// rows are the codes, scales and minima of so many rows. With 16 bits there are no
// scales, and none are read.
func (p Packing) rows(at []uint16, rows int) (codes, scales, minima []uint16) {
	if p.Bits == 16 {
		return at, at, at
	}
	scales = at[rows*p.rowWords():]
	return at, scales, scales[rows:]
}

// unpackAssembly is unpackGroup where registers divide a value; what is behind a
// key's channels becomes 0. false means that there is no kernel.
func (p PackedSlots) unpackAssembly(isa ISA, keys, values []float32, group []uint16, s *Scratch) bool {
	d, rows := p.Values, p.keyRows()
	wide := (rows + lanes - 1) &^ (lanes - 1)
	if isa != AVX512 || d%packLanes != 0 || wide > d {
		return false
	}
	kernel, valueRows := packedKernelsFor[p.Bits].unpack, p.blocks()*PackTokens
	buffers := s.floats(wide*packLanes + 2*max(wide, PackTokens))
	tile, work := buffers[:wide*packLanes], buffers[wide*packLanes:]
	codes, scales, minima := p.rows(group, rows)
	kernel(&tile[0], packLanes, &work[0], &codes[0], &scales[0], &minima[0], uintptr(rows))
	clear(tile[rows*packLanes:])
	var ones [lanes]float32
	for i := range ones {
		ones[i] = 1
	}
	for half := 0; half < packLanes; half += lanes {
		attendKernelsFor[AVX512].transpose(&keys[half*d], &tile[half], &ones[0], uintptr(d), packLanes, lanes, packLanes*lanes, uintptr(wide/lanes))
	}
	codes, scales, minima = p.rows(group[p.keyWords():], valueRows)
	for b := range p.blocks() {
		at := b * PackTokens
		kernel(&values[b*packLanes], uintptr(d), &work[0], &codes[at*p.rowWords()], &scales[at], &minima[at], PackTokens)
	}
	return true
}
