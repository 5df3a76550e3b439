package model

import "lessrag/lesskernels/cpu"

// fewTogether is the most answers whose step the threads do in one program: see
// cpu.Crew. Each makes and rounds the rows that products read for itself.
const fewTogether = 8

const (
	storeUnits = 36 // the room for a token, compared with a panel's 2 units
	evictUnits = 4  // and what is done behind attention
)

// program is what the threads do with a layer's matrices in a step.
type program struct {
	heads, o, down cpu.Products
	gateUp         cpu.Chain
}

// newPrograms returns nothing where not all products are of codes.
func (c *CPU) newPrograms() []program {
	dim := c.config.HeadDim
	var programs []program
	for i := range c.weights.layers {
		l := &c.weights.layers[i]
		p := program{heads: c.heads(l),
			o:      cpu.Products{{Matrix: l.o, Dst: c.x, Add: true}},
			down:   cpu.Products{{Matrix: l.down, Dst: c.x, Add: true}},
			gateUp: cpu.Chain{Products: cpu.Products{{Matrix: l.gate, Dst: c.gate}, {Matrix: l.up, Dst: c.up}}, Next: &c.hidden, M: l.down}}
		for j, place := range []func(b *batch, from, to int){c.placeQueries, c.placeKeys, c.placeValues} {
			p.heads[j].Finish = func(from, to int) { place(&c.batch, from/dim, to/dim) }
		}
		if !p.gateUp.Chains() {
			return nil
		}
		programs = append(programs, p)
	}
	return programs
}

// together tells whether a batch is the step of a few answers. A cache that prunes key
// channels looks at a token's queries before it makes room.
func (c *CPU) together(b *batch) bool {
	if c.programs == nil || b.rows > fewTogether {
		return false
	}
	for i := range b.blocks {
		if !b.blocks[i].step || b.works[i].Targets != nil || b.blocks[i].sequence.Plan().Spec.Think != 0 {
			return false
		}
	}
	return true
}

// layersTogether computes all layers of the step of a few answers.
func (c *CPU) layersTogether(b *batch) {
	hidden, rows, spans, watches := c.config.Hidden, b.rows, 0, false
	for i := range b.blocks {
		spans += c.config.KVHeads * (1 + b.positions[i]/spanSlots)
		watches = watches || b.blocks[i].sequence.Plan().Watches()
	}
	c.hidden.SetColumns(c.gate, rows, hidden, func(row, from, to int) {
		gate := rowOf(c.gate, row, hidden)[from:to]
		cpu.SwiGLU(gate, gate, rowOf(c.up, row, hidden)[from:to])
	})
	c.programs[0].gateUp.Begin()
	c.pool.Crew(func(crew *cpu.Crew) {
		for i := range c.programs {
			c.layerTogether(crew, b, i, rows, spans, watches)
		}
	})
}

// layerTogether is one thread's part of a layer. Its stages are those of Forward; what
// is done for all threads is the first unit of the stage that need not wait for it.
func (c *CPU) layerTogether(crew *cpu.Crew, b *batch, i, rows, spans int, watches bool) {
	l, p, w := &c.weights.layers[i], &c.programs[i], c.workers[crew.Thread]
	crew.Stage(storeUnits+p.heads.Units(rows), func() {
		w.norm(c, rows, l.attentionNorm)
		p.heads.Ready(&w.input)
	}, func(from, to int) {
		if from == 0 {
			c.store(b, i, 0)
		}
		p.heads.Do(&w.input, from-storeUnits, to-storeUnits)
	})
	c.mark(crew, Matmul)
	crew.Expect(p.o, rows, evictUnits)
	tasks(crew, spans, func() int { return len(b.tasks) }, func(task int) { c.attendOne(b, i, task, w) })
	c.mark(crew, Attention)
	if watches {
		tasks(crew, spans, func() int { return len(b.watched) }, func(task int) { c.observeSpan(b, i, &b.watched[task], w) })
	}
	c.mark(crew, Cache)
	crew.Expect(p.gateUp.Products[:1], rows, 0)
	crew.Stage(evictUnits+p.o.Units(rows), func() {
		w.input.Set(c.attention, rows, c.config.Heads*c.config.HeadDim)
		p.o.Ready(&w.input)
	}, func(from, to int) {
		if from == 0 {
			c.evict(b, i, 0)
		}
		p.o.Do(&w.input, from-evictUnits, to-evictUnits)
	})
	crew.Expect(p.down, rows, 0)
	crew.Stage(p.gateUp.Units(), func() {
		w.norm(c, rows, l.ffnNorm)
		p.gateUp.Ready(&w.input)
	}, func(from, to int) { p.gateUp.Do(&w.input, from, to) })
	if i+1 < len(c.programs) {
		crew.Expect(c.programs[i+1].heads, rows, storeUnits)
	}
	crew.Stage(p.down.Units(rows), func() { c.expect(b, i+1) }, func(from, to int) { p.down.Do(&c.hidden, from, to) })
	c.mark(crew, Matmul)
}

// expect asks for what a layer, if there is one more, begins with: the books of its caches.
func (c *CPU) expect(b *batch, layer int) {
	for i := 0; i < len(b.blocks) && layer < c.config.Layers; i++ {
		b.blocks[i].sequence.Expect(layer)
	}
}

// tasks shares out tasks whose number is known when the stage begins, in so many units.
func tasks(crew *cpu.Crew, units int, count func() int, do func(task int)) {
	crew.Uneven(units, func(from, to int) {
		n := count()
		for task := (from*n + units - 1) / units; task*units < to*n; task++ {
			do(task)
		}
	})
}

// mark gives time to a stage, on the thread of the passes.
func (c *CPU) mark(crew *cpu.Crew, s Stage) {
	if crew.Thread == 0 {
		c.Clock.Mark(s)
	}
}

// norm makes this thread's input of the normalised residual stream.
func (w *attendWorker) norm(c *CPU, rows int, weight []float32) {
	width := c.config.Width
	w.normed = resize(w.normed, fewTogether*width)
	for row := range rows {
		cpu.RMSNorm(rowOf(w.normed, row, width), rowOf(c.x, row, width), weight, c.config.Epsilon)
	}
	w.input.Set(w.normed, rows, width)
}
