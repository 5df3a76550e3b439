package model

import "lessrag/lesskernels/cuda/device"

// step is all that the launches of a pass depend on where every sequence takes one token and none evicts:
// positions, lengths, places and states lie in tables, which stand at the same addresses in every such pass.
type step struct {
	tables  device.Pointer
	rows    int
	picked  int                 // rows whose logits are wanted
	search  bool                // for likely tokens
	watched [len(sights)][2]int // rows that are observed, and slots that they see at most
	splits  int
	asks    bool
	recalls bool
	queried int                      // blocks whose queries choose channels
	packed  [3 + 3*len(packings)]int // splits, and of each packing tiles and blocks that are observed
	layered bool
}

// mostGraphs is how many graphs are kept. There is one for each number of answers, and for as many spans of
// slots as a full cache has come to hold.
const mostGraphs = 256

// repeats tells whether a batch is a step.
func (c *CUDA) repeats(b *cudaBatch) (step, bool) {
	if len(b.waves) != 1 || b.own {
		return step{}, false
	}
	w := &b.waves[0]
	if len(w.steps.rows.values) != b.rows || !w.evictions.empty() {
		return step{}, false
	}
	for i := range b.blocks {
		if b.blocks[i].evicts || b.works[i].Targets != nil {
			return step{}, false
		}
	}
	s := step{tables: c.tables.memory, rows: b.rows, picked: len(b.pick.values), search: b.searches(), splits: b.splits, asks: b.asks, recalls: b.recalls, queried: len(w.asks.values), layered: b.layered}
	s.packed[0] = b.packSplits
	for i := range w.packed {
		p := &w.packed[i]
		copy(s.packed[1+3*i:], []int{len(p.rows.values), len(p.watched[0].values)<<20 | p.most[0], len(p.watched[1].values)<<20 | p.most[1]})
	}
	for i := range w.watches {
		s.watched[i] = [2]int{len(w.watches[i].held.values), w.watches[i].most}
	}
	return s, true
}

// repeat runs the launches of a step from their graph, which the first such step makes.
func (c *CUDA) repeat(b *cudaBatch, s step) {
	if c.failed != nil {
		return
	}
	g, ok := c.graphs[s]
	if !ok {
		var err error
		g, err = c.stream.Capture(func() error {
			c.compute(b)
			c.head(b)
			return c.failed
		})
		if err != nil {
			c.check(err)
			return
		}
		if len(c.graphs) >= mostGraphs {
			c.dropGraphs()
		}
		if c.graphs == nil {
			c.graphs = map[step]device.Graph{}
		}
		c.graphs[s] = g
	}
	c.check(c.stream.Run(g))
}

// dropGraphs gives graphs back: there are too many, or tables have moved.
func (c *CUDA) dropGraphs() {
	if len(c.graphs) > 0 {
		c.check(c.stream.Wait())
	}
	for _, g := range c.graphs {
		c.check(g.Close())
	}
	c.graphs = nil
}
