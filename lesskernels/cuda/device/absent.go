//go:build nocuda || !linux || !(amd64 || arm64)

package device

import "fmt"

// Count tells that this binary has no way to a driver.
func Count() (int, error) {
	return 0, fmt.Errorf("%w: this binary was built without CUDA", ErrUnavailable)
}

// Open tells that this binary has no way to a driver.
func Open(int) (Device, error) {
	_, err := Count()
	return nil, err
}
