package ingest

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound is returned for an unknown document, ingestion or collection.
	ErrNotFound = errors.New("not found")
	// ErrInvalid is wrapped by every InvalidError: the caller's input is at fault.
	ErrInvalid = errors.New("invalid input")
	// ErrState is returned when a document's state forbids what was asked, such as a retry of a ready one.
	ErrState = errors.New("not possible in this state")
	// ErrEmbedder is wrapped by every EmbedderError.
	ErrEmbedder = errors.New("collection was embedded by another model")
)

// InvalidError names the field at fault and says what is wrong with it.
type InvalidError struct {
	Field   string // such as "collection" or "documents[2].name"
	Message string // such as "must not be empty"
}

func (e *InvalidError) Error() string { return e.Field + " " + e.Message }

// Unwrap makes errors.Is(err, ErrInvalid) hold.
func (e *InvalidError) Unwrap() error { return ErrInvalid }

// EmbedderError says that a collection holds the vectors of another model than the one that runs.
type EmbedderError struct {
	Collection     string
	Have           string // the model that embedded the collection
	HaveDimensions int
	Want           string // the model that runs now
	WantDimensions int
}

func (e *EmbedderError) Error() string {
	return fmt.Sprintf("collection %q was embedded by %s (%d dimensions), this service runs %s (%d dimensions): use another collection, or start the service with that model",
		e.Collection, e.Have, e.HaveDimensions, e.Want, e.WantDimensions)
}

// Unwrap makes errors.Is(err, ErrEmbedder) hold.
func (e *EmbedderError) Unwrap() error { return ErrEmbedder }
