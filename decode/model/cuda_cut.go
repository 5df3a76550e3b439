package model

import (
	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// cutTables are what evictions of some sequences need in a layer: of every KV head, what states
// absorb, what moves, and which keys are turned anew. They are carried out in this order.
type cutTables struct {
	jobs     table[cuda.Job]
	leaving  table[cuda.Leaving]
	moves    table[cuda.Move]
	turns    table[cuda.Turn]
	cos, sin table[float32] // [turns, headDim/2]
}

// add notes what an eviction does to the KV heads of a layer, or of all. own is where the
// sequence's block lies, newest the position of its last token.
func (t *cutTables) add(s *cudaSequence, layer int, own cuda.Place, cuts []cut) {
	c, first := s.backend, len(t.jobs.values)
	for head := range c.heads.KVHeads {
		cut := &cuts[head%len(cuts)]
		slot, row := s.place.OfHead(head), own.OfHead(head)
		for _, m := range cut.moved {
			t.moves.add(cuda.Move{From: slot.After(m.from), To: slot.After(m.to)})
		}
		for _, m := range cut.stored {
			t.moves.add(cuda.Move{From: row.After(m.from), To: slot.After(m.to)})
		}
		if s.states == 0 || len(cut.gone) == 0 {
			continue
		}
		job := cuda.Job{Table: s.table, KVHead: int64(head), First: int64(len(t.leaving.values))}
		for _, g := range cut.gone {
			if int(g.position) >= s.asked { // nobody will ask for it
				continue
			}
			from := slot
			if g.own {
				from = row
			}
			t.leaving.add(cuda.Leaving{Key: from.Key + int64(g.slot), Value: from.Value + int64(g.slot), Layer: from.Layer, Position: int64(g.position)})
			job.Count++
			job.Newest = max(job.Newest, int64(g.position))
		}
		if !s.begun[layer] {
			job.Fresh = 1
		}
		t.jobs.add(job)
	}
	if len(t.jobs.values) > first {
		s.begun[layer] = true
	}
	if by := s.books.turn; by != 0 {
		t.turn(s, by)
	}
}

// turn turns the sinks of all KV heads of a sequence by a number of positions.
func (t *cutTables) turn(s *cudaSequence, by int) {
	half := s.backend.heads.Dim / 2
	cos, sin := make([]float32, half), make([]float32, half)
	rotation(cos, sin, s.backend.frequencies, by)
	for i := range int64(cache.SinkTokens) {
		turn := cuda.Turn{Copy: s.sinks.Key + i, CopyLayer: s.sinks.Layer, CopyHead: s.sinks.Head,
			Key: s.place.Key + i, KeyLayer: s.place.Layer, KeyHead: s.place.Head}
		if !s.copied {
			turn.Make = 1
		}
		t.turns.add(turn)
		t.cos.add(cos...)
		t.sin.add(sin...)
	}
	s.copied = true
}

// stage puts the tables among what is uploaded.
func (t *cutTables) stage(u *upload) {
	u.put(cuda.Bytes(t.jobs.values), &t.jobs.at)
	u.put(cuda.Bytes(t.leaving.values), &t.leaving.at)
	u.put(cuda.Bytes(t.moves.values), &t.moves.at)
	u.put(cuda.Bytes(t.turns.values), &t.turns.at)
	u.put(cuda.Bytes(t.cos.values), &t.cos.at)
	u.put(cuda.Bytes(t.sin.values), &t.sin.at)
}

// cut carries out evictions in a layer.
func (c *CUDA) cut(layer int, t *cutTables) {
	if n := len(t.jobs.values); n > 0 {
		c.check(c.kernels.Absorb(c.stream, c.heads, &c.maps.layers[layer], 0, t.jobs.at, t.leaving.at, c.maps.turns, 0, n, layer))
	}
	if n := len(t.moves.values); n > 0 {
		one := c.heads
		one.Heads, one.KVHeads = c.heads.Group(), 1 // every KV head has moves of its own
		c.check(c.kernels.Move(c.stream, one, 0, t.moves.at, n, layer))
	}
	if n := len(t.turns.values); n > 0 {
		c.check(c.kernels.Turn(c.stream, c.heads, 0, t.turns.at, t.cos.at, t.sin.at, n, layer))
	}
}

// upload gathers tables that go to the device in one piece, to memory that grows as it must.
type upload struct {
	staged []byte
	fix    []func(base device.Pointer)
	memory device.Pointer
	room   int // its bytes
}

// put adds a table, and will tell where it is.
func (u *upload) put(data []byte, at *device.Pointer) {
	offset := device.Pointer(len(u.staged))
	u.staged = append(u.staged, data...)
	for len(u.staged)%16 != 0 { // what kernels expect of an address
		u.staged = append(u.staged, 0)
	}
	u.fix = append(u.fix, func(base device.Pointer) { *at = base + offset })
}

// send brings what was put to the device.
func (c *CUDA) send(u *upload) {
	if len(u.staged) > u.room {
		c.growTables(u)
	}
	for _, f := range u.fix {
		f(u.memory)
	}
	if c.failed == nil {
		c.check(c.stream.Upload(u.memory, u.staged))
	}
	u.staged, u.fix = u.staged[:0], u.fix[:0]
}
