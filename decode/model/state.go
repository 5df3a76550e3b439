package model

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"lessrag/decode/cache"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// memory is what a backend knows of the states of its sequences: the feature maps
// of LESS, and the evicted tokens that are still to be absorbed.
type memory struct {
	maps     []*cpu.Maps // [layers]; nil: none are loaded
	source   *lesskernels.Maps
	postRoPE bool // the maps take keys and queries as attention does, rotated

	leaving  []leaving
	joining  []joining
	tiles    []leavingTile
	features []float32 // [rows, rank] ψ of the tiles' keys
	k, v     []uint16  // [rows, stored] of leaving
	psi      []uint16  // [tokens, rank] of those whose ψ was computed when their key was whole
	at       []int32   // [rows] original positions
	turns    turns     // for keys of positions that maps take as they were before RoPE
}

// leaving are consecutive rows of one KV head that its state will absorb.
type leaving struct {
	state       *cache.State
	layer, head int
	first, n    int
	psi         int // where their ψ begins in memory.psi; -1: their keys are whole
	features    int // and in memory.features
}

// joining is all that one state absorbs, in this order. The task that computes the last of
// its ψ absorbs it.
type joining struct {
	first, end int   // of leaving
	left       int32 // tiles
}

// leavingTile is some rows of those that leave, whose ψ one task computes; none, where no ψ
// is needed.
type leavingTile struct {
	joining  int
	leaving  int
	first, n int
	features int
}

// mostLeaving is how many rows wait at most, and absorbTile how many go through the
// feature maps at once.
const (
	mostLeaving = 1 << 12
	absorbTile  = 64
)

// UseMaps loads the feature maps of LESS. Sequences that are planned afterwards
// with +less have the states that they give; it is called before any is made. The
// caller has checked that they were made for this model's file: see Maps.Check.
func (c *CPU) UseMaps(maps *lesskernels.Maps) error {
	if err := checkMaps(maps, c.config); err != nil {
		return err
	}
	m := memory{source: maps, postRoPE: maps.Header.Inputs == lesskernels.PostRoPE, turns: newTurns(c.frequencies, c.config.Context)}
	rank := 0
	for _, f := range maps.Layers {
		m.maps = append(m.maps, cpu.PackMaps(f, c.isa))
		rank = max(rank, f.Rank)
	}
	c.memory = m
	c.before = make([]float32, c.limits.Tokens*c.config.Heads*c.config.HeadDim)
	for _, w := range c.workers {
		w.phi = make([]float32, max(tileQueries*c.config.Group(), absorbTile)*rank)
	}
	return nil
}

// checkMaps refuses maps that are not of a model's shape.
func checkMaps(maps *lesskernels.Maps, c Config) error {
	if len(maps.Layers) != c.Layers {
		return fmt.Errorf("model: feature maps of %d layers for a model of %d", len(maps.Layers), c.Layers)
	}
	for i, f := range maps.Layers {
		if f.Heads != c.Heads || f.KVHeads != c.KVHeads || f.HeadDim != c.HeadDim {
			return fmt.Errorf("model: the feature maps of layer %d have %d query heads and %d KV heads of %d; the model has %d and %d of %d",
				i, f.Heads, f.KVHeads, f.HeadDim, c.Heads, c.KVHeads, c.HeadDim)
		}
	}
	return checkGates(maps, c.Layers, c.KVHeads)
}

// checkGates refuses maps that have no gate, or one of another size.
func checkGates(maps *lesskernels.Maps, layers, kvHeads int) error {
	if len(maps.Header.Gates) == 0 {
		return errors.New("model: feature maps without a gate")
	}
	for policy := range maps.Header.Gates {
		rows := maps.LogScales[policy]
		for _, row := range rows {
			if len(row) != kvHeads {
				return fmt.Errorf("model: the gate of %s has a layer of %d KV heads for %d", policy, len(row), kvHeads)
			}
		}
		if len(rows) != layers {
			return fmt.Errorf("model: the gate of %s has %d layers for %d", policy, len(rows), layers)
		}
	}
	return nil
}

// ranksOf [layers·kvHeads] are a policy's states, 0 where the gate has switched one off;
// nil: no feature maps are loaded.
func ranksOf(maps *lesskernels.Maps, policy string) []int {
	if maps == nil {
		return nil
	}
	var ranks []int
	for layer, row := range maps.GateOf(policy).LogScale {
		for _, logScale := range row {
			rank := maps.Layers[layer].Rank
			if lesskernels.Off(logScale) {
				rank = 0
			}
			ranks = append(ranks, rank)
		}
	}
	return ranks
}

// collect notes tokens that a KV head hands over, for absorb.
func (c *CPU) collect(state *cache.State, layer, head int, k, v, psi []uint16, positions []int32) {
	if state == nil {
		return
	}
	m := &c.memory
	if len(m.at)+len(positions) > mostLeaving {
		c.absorb()
	}
	if last := len(m.leaving) - 1; last >= 0 && m.leaving[last].state == state && m.leaving[last].psi < 0 && psi == nil {
		m.leaving[last].n += len(positions)
	} else {
		l := leaving{state: state, layer: layer, head: head, first: len(m.at), n: len(positions), psi: -1}
		if psi != nil {
			l.psi = len(m.psi)
			m.psi = append(m.psi, psi...)
		}
		m.leaving = append(m.leaving, l)
	}
	m.k, m.v, m.at = append(m.k, k...), append(m.v, v...), append(m.at, positions...)
}

// absorb adds what was collected to the states.
func (c *CPU) absorb() {
	m := &c.memory
	if !m.postRoPE && m.maps != nil {
		m.turns.prepare(m.at)
	}
	m.tiles, m.joining = m.tiles[:0], m.joining[:0]
	size := 0
	for from := 0; from < len(m.leaving); {
		j := joining{first: from, end: from + 1}
		for j.end < len(m.leaving) && m.leaving[j.end].state == m.leaving[from].state {
			j.end++
		}
		tiles := len(m.tiles)
		for i := range m.leaving[from:j.end] {
			size = m.tile(from+i, size)
		}
		if len(m.tiles) == tiles {
			m.tiles = append(m.tiles, leavingTile{joining: len(m.joining)})
		}
		j.left = int32(len(m.tiles) - tiles)
		m.joining = append(m.joining, j)
		from = j.end
	}
	m.features = resize(m.features, size)
	c.run(len(m.tiles), func(i int, w *attendWorker) {
		t := &m.tiles[i]
		if t.n > 0 {
			c.featuresOf(t, w)
		}
		if j := &m.joining[t.joining]; atomic.AddInt32(&j.left, -1) == 0 {
			for l := j.first; l < j.end; l++ {
				c.absorbOne(&m.leaving[l], w)
			}
		}
	})
	m.leaving, m.k, m.v, m.psi, m.at = m.leaving[:0], m.k[:0], m.v[:0], m.psi[:0], m.at[:0]
}

// tile lists the tiles of which ψ is to be computed, of the state that is listed next, and
// returns where the features of those that come later begin.
func (m *memory) tile(leaving, size int) int {
	l := &m.leaving[leaving]
	if l.features = size; l.psi >= 0 || l.state.KeyMean != nil {
		return size
	}
	for from := 0; from < l.n; from += absorbTile {
		n := min(absorbTile, l.n-from)
		m.tiles = append(m.tiles, leavingTile{joining: len(m.joining), leaving: leaving, first: l.first + from, n: n, features: size})
		size += n * len(l.state.Z)
	}
	return size
}

// featuresOf computes ψ of a tile.
func (c *CPU) featuresOf(t *leavingTile, w *attendWorker) {
	m, l, dim := &c.memory, &c.memory.leaving[t.leaving], c.config.HeadDim
	w.keys = resize(w.keys, (absorbTile+1)*dim)
	for i := range t.n {
		key := rowOf(w.keys, i, dim)
		c.widen(key, rowOf(m.k, t.first+i, c.stored))
		if !m.postRoPE {
			m.turns.back(key, rowOf(w.keys, absorbTile, dim), int(m.at[t.first+i]))
		}
	}
	m.maps[l.layer].Psi(m.features[t.features:], l.head, w.keys, t.n, &w.kernel)
}

// features writes ψ [n, rank] of keys [n, headDim] of at most absorbTile tokens, as
// attention sees them, whole: see cache.Features. No task runs meanwhile.
func (c *CPU) features(layer, head int, keys []float32, positions []int32, psi []float32) {
	m, dim, w := &c.memory, c.config.HeadDim, c.workers[0]
	w.keys = resize(w.keys, (absorbTile+1)*dim)
	copy(w.keys, keys)
	if !m.postRoPE {
		m.turns.prepare(positions)
		for i, position := range positions {
			m.turns.back(rowOf(w.keys, i, dim), rowOf(w.keys, absorbTile, dim), int(position))
		}
	}
	m.maps[layer].Psi(psi, head, w.keys, len(positions), &w.kernel)
}

func (c *CPU) absorbOne(l *leaving, w *attendWorker) {
	m, dim := &c.memory, c.config.HeadDim
	if l.state.KeyMean != nil {
		w.keys = resize(w.keys, absorbTile*dim)
		for from := 0; from < l.n; from += absorbTile {
			n := min(absorbTile, l.n-from)
			for i := range n {
				c.widen(rowOf(w.keys, i, dim), rowOf(m.k, l.first+from+i, c.stored))
			}
			c.absorbMoments(l, w, n, from, m.v[(l.first+from)*c.stored:(l.first+from+n)*c.stored])
		}
		return
	}
	size := l.n * len(l.state.Z)
	var psi []float32
	if l.psi < 0 {
		psi = m.features[l.features:][:size]
	} else {
		psi = w.phi[:size]
		for i := range psi {
			psi[i] = math.Float32frombits(uint32(m.psi[l.psi+i]) << 16)
		}
	}
	c.add(l.state, l.layer, l.head, psi, m.v[l.first*c.stored:(l.first+l.n)*c.stored], m.at[l.first:l.first+l.n])
}

// widen is the float32 key or value that stored bf16 numbers stand for.
func (c *CPU) widen(dst []float32, stored []uint16) {
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(stored[i]) << 16)
	}
	for at := len(dst); at < len(stored); at += len(dst) {
		for i := range dst {
			dst[i] += math.Float32frombits(uint32(stored[at+i]) << 16)
		}
	}
}

// recall joins to the attention of a tile, out [n, group, stored] and lse
// [n, group], that over what a KV head's state has absorbed; lse may stay what it is. first is the tile's
// first row in the batch, position its position.
func (c *CPU) recall(s *cache.Sequence, layer, kvHead, first, position, n int, out, lse []float32, w *attendWorker) {
	state := s.State(layer, kvHead)
	if state == nil || state.Absorbed == 0 {
		return
	}
	var gate lesskernels.Gate
	if state.KeyMean == nil {
		gate = c.memory.source.GateOf(s.Plan().Spec.Policy)
		n = min(n, gate.Validated-position) // later rows do without
	}
	if n <= 0 {
		return
	}
	group, dim := c.config.Group(), c.config.HeadDim
	queries := c.q
	if state.KeyMean == nil && !c.memory.postRoPE {
		queries = c.before
	}
	for i := range n {
		copy(w.q[i*group*dim:], rowOf(queries, (first+i)*c.config.KVHeads+kvHead, group*dim))
	}
	if state.KeyMean != nil {
		one, oneLSE := w.one[:n*group*c.stored], w.oneLSE[:n*group]
		c.askMoments(state, w.q[:n*group*dim], one, oneLSE)
		cpu.Merge(c.isa, out, lse, one, oneLSE, c.stored)
		return
	}
	maps := c.memory.maps[layer]
	maps.Phi(w.phi, kvHead, w.q, n, &w.kernel)
	maps.Fade(w.phi, kvHead, group, n, func(i int) int { return position + i - state.Clock })
	cpu.Recall(c.isa, out, lse[:n*group], w.phi[:n*group*len(state.Z)], state.H, state.Z, gate.LogScale[layer][kvHead])
}

// remember keeps a row's queries of some heads as they are before they are rotated,
// where a state of the layer will be asked with them.
func (c *CPU) remember(b *batch, row, from, to int) {
	if c.memory.maps == nil || c.memory.postRoPE || b.blocks[b.owner[row]].sequence.Plan().Spec.State != cache.Less {
		return
	}
	dim := c.config.HeadDim
	from, to = (row*c.config.Heads+from)*dim, (row*c.config.Heads+to)*dim
	copy(c.before[from:to], c.q[from:to])
}
