package device_test

import (
	"errors"
	"testing"

	"lessrag/lesskernels/cuda/device"
	"lessrag/lesskernels/cuda/device/devicetest"
)

func TestCard(t *testing.T) {
	d, err := device.Open()
	if errors.Is(err, device.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	devicetest.Run(t, d)
}
