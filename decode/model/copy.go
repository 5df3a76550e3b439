package model

import (
	"io"

	"lessrag/decode/cache"
)

// The kept beginnings of prompts. These are called between two Forwards, with
// sequences of this backend.

// Copy is a sequence that holds what s held after its first n tokens: see
// cache.Sequence.Copy.
func (c *CPU) Copy(s Sequence, n int) (Sequence, error) {
	return s.(*cache.Sequence).Copy(n)
}

// Adopt makes a new sequence hold what another held after its first n tokens: see
// cache.Sequence.Adopt.
func (c *CPU) Adopt(s, from Sequence, n int) {
	s.(*cache.Sequence).Adopt(from.(*cache.Sequence), n)
}

// Save writes a sequence, with all that a later Restore goes on from: see
// cache.Sequence.Save. model names this model's file.
func (c *CPU) Save(w io.Writer, s Sequence, model string) error {
	return s.(*cache.Sequence).Save(w, model)
}

// Restore reads a sequence that was saved under the same model and interval: see
// cache.Restore. Its plan takes at most that many bytes.
func (c *CPU) Restore(r io.Reader, model string, interval int, most int64) (Sequence, error) {
	shapeOf := func(policy string) cache.Shape {
		shape := c.Shape(policy)
		shape.Interval = interval
		return shape
	}
	return cache.Restore(r, model, shapeOf, most, c.handlers(), &c.evictions)
}
