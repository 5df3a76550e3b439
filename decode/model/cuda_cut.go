package model

import (
	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// cutTables are what evictions of some sequences need in a layer: of every KV head, what becomes a mean, what states
// absorb, what moves, and which keys are turned anew. They are carried out in this order.
type cutTables struct {
	choosing choosing
	first    bool // channels are chosen before tokens become means
	means    table[cuda.Mean]
	members  table[int64]
	jobs     table[cuda.Job] // of states of LESS
	moments  table[cuda.Job] // of states of moments
	leaving  table[cuda.Leaving]
	moves    table[cuda.Move]
	turns    table[cuda.Turn]
	cos, sin table[float32] // [angles, headDim/2]
	packed   [len(packings)]packTables
	unpacked int64 // the rows of memory of the group that is being unpacked
}

// empty tells whether there is nothing to carry out.
func (t *cutTables) empty() bool {
	for i := range t.packed {
		if !t.packed[i].empty() {
			return false
		}
	}
	return len(t.choosing.of)+len(t.means.values)+len(t.jobs.values)+len(t.moments.values)+len(t.moves.values)+len(t.turns.values) == 0
}

// add notes what an eviction does to the KV heads of a layer, or of all. own is where the
// sequence's block lies.
func (t *cutTables) add(s *cudaSequence, layer int, own cuda.Place, cuts []cut) {
	renumbered := false
	for head := range s.backend.heads.KVHeads {
		cut := &cuts[head%len(cuts)]
		slot, row := s.placeOf(layer, head), own.OfHead(head)
		t.choosing.add(s, layer*s.backend.heads.KVHeads+head, slot.In(layer), row.In(layer), cut.choose)
		for _, m := range cut.means {
			t.mean(m, slot.In(layer), row.In(layer))
		}
		for _, m := range cut.moved {
			t.moves.add(cuda.Move{From: slot.After(m.from), To: slot.After(m.to)})
		}
		for _, m := range cut.stored {
			t.moves.add(cuda.Move{From: row.After(m.from), To: slot.After(m.to)})
		}
		if len(cut.gone) > 0 {
			s.gave = true
			t.absorb(s, layer, head, slot, row, cut.gone)
		}
		t.pack(s, layer, head, slot, row, cut)
		for _, turned := range cut.turned {
			renumbered = true
			t.turn(s, layer, head, turned)
		}
	}
	if renumbered {
		s.copied[layer] = true
	}
}

// absorb notes what the state of a KV head absorbs.
func (t *cutTables) absorb(s *cudaSequence, layer, head int, slot, row cuda.Place, tokens []gone) {
	if s.states == 0 {
		return
	}
	job := cuda.Job{Table: s.table, KVHead: int64(head), First: int64(len(t.leaving.values))}
	for _, g := range tokens {
		if int(g.position) >= s.asked { // nobody will ask for it
			continue
		}
		from := slot
		number, token, packed := g.at.group()
		if packed {
			from = t.unpack(s, head, number, token)
		} else if n, own := g.at.row(); own {
			from = row.After(n)
		} else {
			from = slot.After(n)
		}
		leaving := cuda.Leaving{Key: from.Key, Value: from.Value, Layer: from.Layer, Position: int64(g.position), Turned: int64(g.stands)}
		if s.plan.Spec.State == cache.Moment {
			leaving.Turned = -1
			if g.stands != g.position {
				leaving.Turned = t.angle(s, int(g.position-g.stands))
			}
		} else if packed && s.prunes() { // ψ of it was computed when it had all its channels
			leaving.Key, leaving.Turned = s.psiOf(layer*s.backend.heads.KVHeads+head, number, token), -1
		} else if s.backend.turned() {
			leaving.Turned = 0 // where a key is what it was before: ψ takes this one as it lies
		}
		t.leaving.add(leaving)
		job.Count++
		job.Newest = max(job.Newest, int64(g.position))
	}
	if s.plan.Spec.State == cache.Moment {
		t.moments.add(job)
	} else {
		t.jobs.add(job)
	}
}

// angle notes what turns a key by so many positions; which of the angles that is.
func (t *cutTables) angle(s *cudaSequence, by int) int64 {
	half := s.backend.heads.Dim / 2
	angle := int64(len(t.cos.values) / half)
	cos, sin := make([]float32, half), make([]float32, half)
	rotation(cos, sin, s.backend.frequencies, by)
	t.cos.add(cos...)
	t.sin.add(sin...)
	return angle
}

// mean notes a mean over slots of a KV head and rows of the block, in a layer.
func (t *cutTables) mean(m mean, slot, row cuda.Place) {
	at := func(w where) int64 {
		n, own := w.row()
		from := slot
		if own {
			from = row
		}
		if m.key {
			return from.After(n).Key
		}
		return from.After(n).Value
	}
	t.means.add(cuda.Mean{Row: at(m.of), First: int64(len(t.members.values)), Count: int64(len(m.all))})
	for _, w := range m.all {
		t.members.add(at(w))
	}
}

// turn turns keys of a KV head: the sinks from an exact copy, others where they lie.
func (t *cutTables) turn(s *cudaSequence, layer, head int, keys turned) {
	angle := t.angle(s, keys.by)
	slot, sinks := s.books.slots(layer, head%s.books.heads), s.sinks.OfHead(head)
	for i := keys.from; i < keys.to; i++ {
		key := s.placeOf(layer, head).After(slot(i))
		turn := cuda.Turn{Copy: key.Key, CopyLayer: key.Layer, Key: key.Key, KeyLayer: key.Layer, Angle: angle}
		if i < cache.SinkTokens {
			turn.Copy, turn.CopyLayer = sinks.Key+int64(i), sinks.Layer
			if !s.copied[layer] {
				turn.Make = 1
			}
		}
		t.turns.add(turn)
	}
}

// stage puts the tables among what is uploaded.
func (t *cutTables) stage(u *upload) {
	t.choosing.stage(u)
	u.put(cuda.Bytes(t.means.values), &t.means.at)
	u.put(cuda.Bytes(t.members.values), &t.members.at)
	u.put(cuda.Bytes(t.jobs.values), &t.jobs.at)
	u.put(cuda.Bytes(t.moments.values), &t.moments.at)
	u.put(cuda.Bytes(t.leaving.values), &t.leaving.at)
	u.put(cuda.Bytes(t.moves.values), &t.moves.at)
	for i := range t.packed {
		t.packed[i].stage(u)
	}
	u.put(cuda.Bytes(t.turns.values), &t.turns.at)
	u.put(cuda.Bytes(t.cos.values), &t.cos.at)
	u.put(cuda.Bytes(t.sin.values), &t.sin.at)
}

// cut carries out evictions in a layer.
func (c *CUDA) cut(layer int, t *cutTables) {
	one := c.heads
	one.Heads, one.KVHeads = c.heads.Group(), 1 // every KV head has moves and turns of its own
	if t.first {
		c.choose(&t.choosing)
	}
	if n := len(t.means.values); n > 0 {
		c.check(c.kernels.Mean(c.stream, c.heads, 0, t.means.at, t.members.at, n))
	}
	if !t.first {
		c.choose(&t.choosing)
	}
	c.unpack(layer, t)
	if n := len(t.jobs.values); n > 0 {
		c.check(c.kernels.Absorb(c.stream, c.heads, &c.maps.layers[layer], 0, t.jobs.at, t.leaving.at, c.maps.turns, 0, n, layer))
	}
	if n := len(t.moments.values); n > 0 {
		c.check(c.kernels.AbsorbMoments(c.stream, c.heads, 0, t.moments.at, t.leaving.at, t.cos.at, t.sin.at, 0, n, layer))
	}
	c.pack(layer, t)
	if n := len(t.moves.values); n > 0 {
		c.check(c.kernels.Move(c.stream, one, 0, t.moves.at, n, layer))
	}
	if n := len(t.turns.values); n > 0 {
		c.check(c.kernels.Turn(c.stream, one, 0, t.turns.at, t.cos.at, t.sin.at, n, layer))
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
