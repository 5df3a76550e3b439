package model

import (
	"fmt"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// Prompts are staged as on the CPU: see staging.go. The books of the staging sequence tell which token lies where; what
// the question's rows attended to is read when it is asked for. What fails here is told by the next Forward.

// beside is what must be free on a device beside the model.
type beside struct{ caches, staging, desks int64 }

func (b beside) bytes() int64 { return b.caches + b.staging + b.desks }

func (b beside) String() string {
	return fmt.Sprintf("%d for caches, %d for staging a prompt and %d for putting one together from passages", b.caches, b.staging, b.desks)
}

// beside is the most that sequences for any of the caches take: one that stages a prompt, and two desks, on which a prompt is
// put together and a passage computed.
func (c *CUDA) beside() (beside, error) {
	b := beside{caches: c.caches}
	for _, policy := range cache.Policies() {
		shape := c.Shape(policy)
		if c.limits.Blend > 0 {
			plan, err := cache.NewDesk(cache.Spec{Policy: policy}, min(c.limits.Blend, c.config.Context), shape)
			if err != nil {
				return b, err
			}
			b.desks = max(b.desks, 2*plan.Bytes)
		}
		for _, state := range []string{"", "+" + cache.Moment, "+" + cache.Less} {
			spec, err := cache.ParseSpec(policy + state + "+think") // which takes more than without
			if err != nil || c.limits.Staging == 0 || spec.State == cache.Less && shape.Ranks == nil {
				continue // there is no such cache, or none is staged
			}
			plan, err := cache.NewStaging(spec, c.limits.Staging, shape)
			if err != nil {
				return b, err
			}
			b.staging = max(b.staging, plan.Bytes)
		}
	}
	return b, nil
}

// Staged describes what a staging sequence holds and what its question's rows attended to.
func (c *CUDA) Staged(staging Sequence) cache.Staged {
	s := staging.(*cudaSequence)
	shape, width := s.plan.Shape, s.plan.Width()
	staged := s.books.Staged()
	staged.Group = shape.Group
	c.sums = resize(c.sums, shape.KVHeads*s.room*width)
	for layer := range shape.Layers {
		if s.seen != never && width > 0 {
			c.download(cuda.Bytes(c.sums), device.Pointer(4*(s.sums+int64(layer*len(c.sums)))))
		}
		for head := range shape.KVHeads {
			i := layer*shape.KVHeads + head
			n, slot := len(staged.Positions[i]), s.books.slots(layer, head)
			attention := make([]float32, n*width)
			for j := range n {
				if s.seen == never || c.failed != nil || int(staged.Positions[i][j]) >= s.seen {
					break // this one and later ones were not seen
				}
				copy(attention[j*width:(j+1)*width], c.sums[(head*s.room+slot(j))*width:])
			}
			staged.Attention[i] = attention
		}
	}
	return staged
}

// Retain leaves in a staging sequence what was chosen; its states absorb the rest.
func (c *CUDA) Retain(staging Sequence, choice cache.Choice) {
	s := staging.(*cudaSequence)
	s.carryOut(cuda.Place{}, s.books.retain(choice))
	s.seen = never
}

// Take fills a new sequence with what was chosen of a staging sequence, and with
// its states, which absorb the rest. The staging sequence stays as it is.
func (c *CUDA) Take(sequence, staging Sequence, choice cache.Choice) {
	s, from := sequence.(*cudaSequence), staging.(*cudaSequence)
	s.copyStates(from)
	s.copyQueries(from)
	s.carryOut(from.place, s.books.take(from.books, choice))
	s.each = s.each || s.plan.Spec.AsksQuestion()
	s.late, s.position, s.known = s.late && !s.each, from.position, 0
}

// Reset empties a staging sequence for the next prompt.
func (c *CUDA) Reset(staging Sequence) {
	s := staging.(*cudaSequence)
	s.books.Reset()
	s.position, s.gave, s.seen = 0, false, never
	c.check(s.forget())
	c.check(s.forgetQueries())
}

// carryOut does what was decided about all KV heads [layers·kvHeads]. own is where what is stored lies.
func (s *cudaSequence) carryOut(own cuda.Place, cuts []cut) {
	c, kvHeads := s.backend, s.backend.heads.KVHeads
	for layer := range c.config.Layers {
		late := cutTables{first: true}
		late.add(s, layer, own, cuts[layer*kvHeads:(layer+1)*kvHeads])
		c.cutLate(layer, &late)
	}
}

// copyStates gives a sequence the states of another one with the same maps and policy.
func (s *cudaSequence) copyStates(from *cudaSequence) {
	if s.states > 0 && from.states > 0 { // a desk has none
		c := s.backend
		c.check(c.stream.Copy(device.Pointer(4*s.table), device.Pointer(4*from.table), 4*s.stateFloats()))
		s.gave = from.gave
	}
}
