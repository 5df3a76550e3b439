//go:build nocuda || !linux || !(amd64 || arm64)

package device

import "fmt"

// Open tells that this binary has no way to a driver.
func Open() (Device, error) {
	return nil, fmt.Errorf("%w: this binary was built without CUDA", ErrUnavailable)
}
