package device_test

import (
	"testing"

	"lessrag/lesskernels/cuda/device/devicetest"
)

func TestCard(t *testing.T) { devicetest.Run(t, devicetest.Card(t)) }
