package decode

import (
	"lessrag/decode/cache"
	"lessrag/decode/model"
)

// Backend computes forward passes on one device. It is used by one goroutine at
// a time.
type Backend interface {
	// NewSequence takes the Plan's bytes on the device.
	NewSequence(cache.Plan) (model.Sequence, error)
	// Forward feeds every Work's tokens to its sequence. Results are in the order
	// of the work; their slices are valid until the next call.
	Forward([]model.Work) ([]model.Result, error)
	Config() model.Config
	Shape() cache.Shape // what sequences are planned with
	Close()
}
