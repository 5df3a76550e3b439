package decode

import (
	"lessrag/decode/cache"
	"lessrag/decode/model"
	"lessrag/decode/passages"
)

// Backend computes forward passes on one device. It is used by one goroutine at
// a time.
type Backend interface {
	// NewSequence takes the Plan's bytes on the device. What fails of the methods without an error is told by the next
	// Forward.
	NewSequence(cache.Plan) (model.Sequence, error)
	// Forward feeds every Work's tokens to its sequence. Results are in the order
	// of the work; their slices are valid until the next call.
	Forward([]model.Work) ([]model.Result, error)

	// Copy is a sequence that holds what another held after its first n tokens, in
	// memory of about that size; Adopt makes a new sequence hold what one held:
	// see cache.Sequence.
	Copy(s model.Sequence, n int) (model.Sequence, error)
	Adopt(s, from model.Sequence, n int)

	// A staging sequence holds a prompt until its question has been read: see
	// cache.Chooser.
	Staged(staging model.Sequence) cache.Staged
	Retain(staging model.Sequence, c cache.Choice)
	Take(s, staging model.Sequence, c cache.Choice)
	Reset(staging model.Sequence)

	Config() model.Config
	Shape(policy string) cache.Shape // what sequences with an eviction policy are planned with
	Close()
}

// Blender is a backend that can put prompts together from passages that were computed earlier.
type Blender interface {
	Backend

	// A desk holds a prompt while it is put together from passages: see model.Blend
	// and cache.NewDesk. Passage copies what a full sequence holds of one.
	Blend(b *model.Blend, rows int) (done bool, err error)
	BlendBytes(tokens int) int64 // beside the desk, while it lasts
	Move(s, desk model.Sequence)
	Passage(s model.Sequence, first, n int) (*passages.Passage, error)

	// Distil makes the memory of a passage on a desk, Place puts one into a sequence:
	// see cache.Sequence.
	Distil(desk model.Sequence, first int, p cache.Plan) (*passages.Passage, error)
	Place(s model.Sequence, p *passages.Passage) error
}
