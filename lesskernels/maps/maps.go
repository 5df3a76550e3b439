// Package maps holds the feature maps and head weights that ship with the binary.
package maps

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"lessrag/lesskernels"
)

// shipped has a file for each model, named by the first 16 digits of the model's
// SHA-256, and a README that says how they are made.
//
//go:embed shipped
var shipped embed.FS

const nameDigits = 16

// For reads the maps that ship for the model with this SHA-256, in hex; nil where
// none do.
func For(model string) (*lesskernels.Maps, error) {
	if len(model) < nameDigits {
		return nil, nil
	}
	data, err := shipped.ReadFile("shipped/" + model[:nameDigits] + ".less")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("shipped feature maps: %w", err)
	}
	m, err := lesskernels.ParseMaps(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("shipped feature maps: %w", err)
	}
	return m, nil
}
