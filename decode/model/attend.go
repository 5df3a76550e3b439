package model

import (
	"cmp"
	"slices"
	"sync/atomic"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cpu"
)

// Attention is computed per (Work, KV head, tile of queries) over spans of slots,
// each giving outputs and their log-sum-exps, which are merged in the order of
// the spans. Where one span ends depends on the slots alone, so a query's result
// does not depend on what else is in the batch or on how it is split into tasks.
const (
	spanSlots   = 1024
	tileQueries = 64
	fewQueries  = 8 // so few of a block are split by spans, more by tiles
)

// span is a run of slots of one KV head. Query i of the block sees the first
// min(slots, visible+i) of them, and none where that is negative; where the block's
// rows are not consecutive, i is the row's position in place of its number.
type span struct {
	k, v    []uint16        // [slots, stored] bf16
	packed  cpu.PackedSlots // in their place, where there are any: all of them are seen
	slots   int
	visible int
	rows    []int // [n] positions of the block's rows, rising; nil: consecutive

	weights, peak []float32 // of the block's one row, where its policy watches: see cpu.AttendRow
}

// sees is how many slots query i of the block sees.
func (s *span) sees(i int) int32 {
	if s.rows != nil {
		i = s.rows[i]
	}
	return int32(max(0, min(s.slots, s.visible+i)))
}

// attendTask is a tile of queries of one KV head over some spans.
type attendTask struct {
	block    int
	kvHead   int
	from, to int // queries of the block
	spans    [2]int
	partial  int // where partial results go; -1: these spans are all, the result is final
	head     int // of the partial results, whose last one joins all
	weighed  int // among those whose tiles add up what slots get; -1: none
	cost     int
	appends  bool // first stores the block, which no other task reads
}

// store puts the keys and values of the blocks of one wave where attention will find
// them, and lists the work of attention. A sequence's second block comes in the second
// wave: in every layer it finds what the first has left there.
func (c *CPU) store(b *batch, layer, wave int) {
	kvHeads, dim := c.config.KVHeads, c.stored
	b.tasks, b.spans, b.watched, b.weighed = b.tasks[:0], b.spans[:0], b.watched[:0], b.weighed[:0]
	c.partials.reset()
	for i := range b.blocks {
		block := &b.blocks[i]
		if block.wave != wave {
			continue
		}
		s := block.sequence
		s.Advance(block.ahead)
		s.MakeRoom(layer, block.n)
		block.observed, block.reduce = s.Observed(block.n, b.works[i].Question)
		block.fits = s.Fits(layer, block.n)
		for kvHead := range kvHeads {
			first := len(b.spans)
			c.askQueries(block, layer, kvHead)
			block.weighs = c.weighs(block, layer, kvHead)
			b.splitPacked(s.Packed(layer, kvHead))
			b.watch(i, kvHead, first, packedSlots)
			recent := len(b.spans)
			heldK, heldV := s.Segment(layer, kvHead)
			held := len(heldK) / dim
			k, v := c.ownRows(block, kvHead)
			if block.fits {
				heldK, heldV = s.Grown(layer, kvHead, block.n)
				b.split(heldK, heldV, dim, held+1)
				b.watch(i, kvHead, recent, heldSlots)
			} else {
				b.split(heldK, heldV, dim, held)
				b.watch(i, kvHead, recent, heldSlots)
				own := len(b.spans)
				b.split(k, v, dim, 1)
				b.watch(i, kvHead, own, ownSlots)
			}
			tasks := len(b.tasks)
			c.addTasks(b, i, kvHead, first)
			if last := &b.tasks[len(b.tasks)-1]; len(b.tasks) == tasks+1 || block.n == 1 {
				last.appends = block.fits // to the last span
			} else if block.fits {
				s.Append(layer, kvHead, k, v)
			}
		}
	}
	c.absorb()
	c.keepWeights(b)
	c.keepSums(b)
	slices.SortFunc(b.tasks, func(x, y attendTask) int { return cmp.Compare(y.cost, x.cost) })
}

// split adds the spans of a segment of which query i sees visible+i slots.
func (b *batch) split(k, v []uint16, dim, visible int) {
	for from := 0; from < len(k)/dim; from += spanSlots {
		slots := min(spanSlots, len(k)/dim-from)
		b.spans = append(b.spans, span{k: k[from*dim : (from+slots)*dim], v: v[from*dim : (from+slots)*dim],
			slots: slots, visible: visible - from})
	}
}

// splitPacked adds the spans of packed slots, which every query sees.
func (b *batch) splitPacked(p cpu.PackedSlots) {
	words := p.Words() * spanSlots / cache.GroupTokens
	for groups := p.Groups; len(groups) > 0; {
		p.Groups = groups[:min(words, len(groups))]
		groups = groups[len(p.Groups):]
		slots := len(p.Groups) / p.Words() * cache.GroupTokens
		b.spans = append(b.spans, span{packed: p, slots: slots, visible: slots})
	}
}

// askQueries gives a cache that prunes key channels the queries of a block.
func (c *CPU) askQueries(block *block, layer, kvHead int) {
	if !block.sequence.Queries(layer, kvHead) {
		return
	}
	const window = 32
	group, dim := c.config.Group(), c.config.HeadDim
	n := min(window, block.n)
	squares := make([]float32, dim)
	for row := block.first + block.n - n; row < block.first+block.n; row++ {
		for i, x := range rowOf(c.q, row*c.config.KVHeads+kvHead, group*dim) {
			squares[i%dim] += x * x / float32(n*group)
		}
	}
	block.sequence.Ask(layer, kvHead, n, squares)
}

// addTasks splits one KV head's attention: many queries by tiles, a few by spans.
func (c *CPU) addTasks(b *batch, i, kvHead, firstSpan int) {
	n, spans, slots := b.blocks[i].n, len(b.spans)-firstSpan, 0
	for _, s := range b.spans[firstSpan:] {
		slots += s.slots
	}
	if n <= fewQueries && spans > 1 && slots > spanSlots {
		partial := c.partials.add(i, kvHead, n, spans, c.config.Group(), c.stored)
		for s := range spans {
			from := firstSpan + s
			b.tasks = append(b.tasks, attendTask{block: i, kvHead: kvHead, to: n, spans: [2]int{from, from + 1},
				partial: partial + s, head: len(c.partials.heads) - 1, weighed: -1, cost: n * b.spans[from].slots})
		}
		return
	}
	weighed := b.weigh(i, kvHead, firstSpan)
	for from := 0; from < n; from += tileQueries {
		to := min(n, from+tileQueries)
		task := attendTask{block: i, kvHead: kvHead, from: from, to: to, spans: [2]int{firstSpan, len(b.spans)}, partial: -1, weighed: weighed}
		for _, s := range b.spans[firstSpan:] {
			task.cost += (to - from) * int(s.sees(to-1))
		}
		b.tasks = append(b.tasks, task)
	}
}

// attend runs the listed tasks. Partial results are joined by the task that ends last.
func (c *CPU) attend(b *batch, layer int) {
	c.run(len(b.tasks), func(i int, w *attendWorker) { c.attendOne(b, layer, i, w) })
	c.Clock.Mark(Attention)
}

// attendOne does a listed task.
func (c *CPU) attendOne(b *batch, layer, i int, w *attendWorker) {
	t := &b.tasks[i]
	if b.blocks[t.block].step {
		k := b.spans[t.spans[0]].k
		cpu.Ask(k[:min(len(k), firstAsked)])
	}
	if t.appends {
		c.append(b, layer, t)
	}
	c.attendTile(b, layer, i, w)
	if t.partial < 0 {
		return
	}
	if h := &c.partials.heads[t.head]; atomic.AddInt32(&h.left, -1) == 0 {
		c.partials.join(c, b, layer, h, w)
	}
}

// append stores the keys and values of a task's block.
func (c *CPU) append(b *batch, layer int, t *attendTask) {
	k, v := c.ownRows(&b.blocks[t.block], t.kvHead)
	b.blocks[t.block].sequence.Append(layer, t.kvHead, k, v)
}

// ownRows are a block's keys and values of a KV head, [n, stored].
func (c *CPU) ownRows(block *block, kvHead int) (k, v []uint16) {
	at := (block.first*c.config.KVHeads + kvHead*block.n) * c.stored
	return c.blockK[at : at+block.n*c.stored], c.blockV[at : at+block.n*c.stored]
}

// run calls f for every task, with the scratch of the thread that does it.
func (c *CPU) run(tasks int, f func(task int, w *attendWorker)) {
	c.pool.RunOn(tasks, func(i, thread int) { f(i, c.workers[thread]) })
}

// evict stores the blocks that did not fit, keeping the budget of all, and absorbs
// what leaves: nothing waits for it when a pass has ended.
func (c *CPU) evict(b *batch, layer, wave int) {
	perRow := c.config.KVHeads * c.stored
	for i := range b.blocks {
		block := &b.blocks[i]
		if block.wave != wave {
			continue
		}
		if block.fits {
			block.sequence.Advance(-block.ahead)
			continue
		}
		var columns []float32
		if block.observed < block.n {
			columns = c.ownColumns(block)
		}
		from, to := block.first*perRow, (block.first+block.n)*perRow
		block.sequence.Insert(layer, c.blockK[from:to], c.blockV[from:to], columns)
		block.sequence.Advance(-block.ahead)
	}
	c.absorb()
}

// attendWorker is the scratch of one thread: a tile's queries, its merged result
// and the result of one span.
type attendWorker struct {
	kernel  cpu.Scratch
	q       []float32 // [watchedRows, group, stored]
	out     []float32 // [tileQueries, group, stored]
	lse     []float32 // [watchedRows, group]
	one     []float32 // as out
	oneLSE  []float32
	visible []int32     // [watchedRows]
	weights cpu.Weights // of a tile

	columns []float32 // [group, slots] of a span
	input   cpu.Input // of rows that every thread makes for itself: see together
	normed  []float32 // [fewTogether, width]

	keys []float32 // [absorbTile, headDim], and one row more
	phi  []float32 // [tileQueries, group, R] or [absorbTile, R]
}

func newAttendWorker(group, stored int) *attendWorker {
	rows := tileQueries * group
	return &attendWorker{
		q: make([]float32, watchedRows*group*stored), lse: make([]float32, watchedRows*group),
		out: make([]float32, rows*stored),
		one: make([]float32, rows*stored), oneLSE: make([]float32, rows),
		visible: make([]int32, watchedRows),
	}
}

// mostAsked is the most keys or values, in numbers, that are asked for ahead of their use;
// firstAsked, of a task's own keys, before its block's are stored.
const (
	mostAsked  = 1 << 13
	firstAsked = 1 << 11
)

// askAhead asks for the values of a task and the keys of the next: a step uses each once,
// and whoever waits for the first of them has little else to do.
func (b *batch) askAhead(i int) {
	v := b.spans[b.tasks[i].spans[0]].v
	cpu.Ask(v[:min(len(v), mostAsked)])
	if i+1 < len(b.tasks) {
		k := b.spans[b.tasks[i+1].spans[0]].k
		cpu.Ask(k[:min(len(k), mostAsked)])
	}
}

// attendTile gathers a tile's queries, attends its spans one after the other and
// puts the result into c.attention, or among the partials.
func (c *CPU) attendTile(b *batch, layer, task int, w *attendWorker) {
	t, group, dim := &b.tasks[task], c.config.Group(), c.stored
	n, first := t.to-t.from, b.blocks[t.block].first+t.from
	for i := range n {
		c.gather(w.q[i*group*dim:], first+i, t.kvHead)
	}
	if b.blocks[t.block].step {
		b.askAhead(task)
	}
	out, lse := w.out[:n*group*dim], w.lse[:n*group]
	if t.partial >= 0 {
		out, lse = c.partials.at(t.partial, n*group, dim)
	}
	w.weights.Clear()
	for s := t.spans[0]; s < t.spans[1]; s++ {
		span := &b.spans[s]
		for i := range n {
			w.visible[i] = span.sees(t.from + i)
		}
		to, toLSE := out, lse
		if s > t.spans[0] {
			if w.visible[n-1] == 0 {
				break // causal: what follows is not visible either
			}
			to, toLSE = w.one[:n*group*dim], w.oneLSE[:n*group]
		}
		switch isa := c.attentionISA(&b.blocks[t.block]); {
		case span.packed.Groups != nil && span.weights != nil:
			cpu.AttendPackedRow(min(isa, cpu.AVX512), to, toLSE, span.weights, span.peak, w.q[:group*dim], span.packed, group, dim, c.scale, &w.kernel)
		case span.packed.Groups != nil:
			cpu.AttendPacked(min(isa, cpu.AVX512), to, toLSE, w.q[:n*group*dim], span.packed, group, dim, c.scale, &w.kernel)
		case span.weights != nil:
			cpu.AttendRow(isa, to, toLSE, span.weights, span.peak, w.q[:group*dim], span.k, span.v, group, dim, c.scale, &w.kernel)
		case t.weighed >= 0:
			w.weights.AttendBlock(isa, to, toLSE, w.q[:n*group*dim], span.k, span.v, group, dim, w.visible[:n], c.scale, &w.kernel)
		case !b.blocks[t.block].step:
			cpu.AttendBlock(isa, to, toLSE, w.q[:n*group*dim], span.k, span.v, group, dim, w.visible[:n], c.scale, &w.kernel)
		default:
			cpu.Attend(isa, to, toLSE, w.q[:n*group*dim], span.k, span.v, group, dim, w.visible[:n], c.scale, &w.kernel)
		}
		if s > t.spans[0] {
			cpu.Merge(c.isa, out, lse, to, toLSE, dim)
		}
	}
	if t.weighed >= 0 {
		c.sumTile(b, layer, t, lse, w)
	}
	if t.partial < 0 {
		c.settle(b, layer, t.block, t.kvHead, t.from, n, out, lse, w)
	}
}

// settle ends the attention of n queries of a block, from one on, and one KV head:
// out [n, group, stored] and lse [n, group] are over all that it holds.
func (c *CPU) settle(b *batch, layer, i, kvHead, from, n int, out, lse []float32, w *attendWorker) {
	block, group := &b.blocks[i], c.config.Group()
	first := block.first + from
	for row := range n {
		copy(rowOf(c.lse, (first+row)*c.config.KVHeads+kvHead, group), lse[row*group:])
	}
	c.recall(block.sequence, layer, kvHead, first, b.positions[first], n, out, lse, w)
	for row := range n {
		c.scatter(first+row, kvHead, out[row*group*c.stored:])
	}
}

// gather copies the queries of one row and KV head to q [group, stored]. Where
// keys have two parts, each part meets the same query.
func (c *CPU) gather(q []float32, row, kvHead int) {
	group, dim := c.config.Group(), c.config.HeadDim
	x := rowOf(c.q, row*c.config.KVHeads+kvHead, group*dim)
	for h := range group {
		for at := 0; at < c.stored; at += dim {
			copy(q[h*c.stored+at:], x[h*dim:(h+1)*dim])
		}
	}
}

// scatter puts out [group, stored], the attention of one row and KV head, in its
// place. Where values have two parts, it adds them.
func (c *CPU) scatter(row, kvHead int, out []float32) {
	group, dim := c.config.Group(), c.config.HeadDim
	x := rowOf(c.attention, row*c.config.KVHeads+kvHead, group*dim)
	for h := range group {
		copy(x[h*dim:(h+1)*dim], out[h*c.stored:])
		for at := dim; at < c.stored; at += dim {
			add(x[h*dim:(h+1)*dim], out[h*c.stored+at:])
		}
	}
}
