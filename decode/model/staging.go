package model

import "lessrag/decode/cache"

// A prompt for a cache that asks a question (cache.Chooser) is fed to a staging
// sequence; see cache.NewStaging. These are called between two Forwards, with
// sequences of this backend.

// Staged describes what a staging sequence holds and what its question's rows
// attended to. Its slices are valid until the sequence changes.
func (c *CPU) Staged(s Sequence) cache.Staged { return s.(*cache.Sequence).Staged() }

// Retain leaves in a staging sequence what was chosen; its states absorb the rest.
func (c *CPU) Retain(s Sequence, choice cache.Choice) {
	s.(*cache.Sequence).Retain(choice)
	c.absorb()
}

// Take fills a new sequence with what was chosen of a staging sequence, and with
// its states, which absorb the rest. The staging sequence stays as it is.
func (c *CPU) Take(s, staging Sequence, choice cache.Choice) {
	s.(*cache.Sequence).Take(staging.(*cache.Sequence), choice)
	c.absorb()
}

// Move fills a new sequence with what its policy keeps of a desk; its states absorb
// the rest.
func (c *CPU) Move(s, desk Sequence) {
	s.(*cache.Sequence).Move(desk.(*cache.Sequence))
	c.absorb()
}

// Reset empties a staging sequence, or a desk, for the next prompt.
func (c *CPU) Reset(s Sequence) { s.(*cache.Sequence).Reset() }
