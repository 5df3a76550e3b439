package model

import "lessrag/decode/cache"

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
