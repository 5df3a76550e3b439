package device_test

import (
	"testing"

	"lessrag/lesskernels/cuda/device/devicetest"
)

func TestCard(t *testing.T) {
	for _, card := range devicetest.Cards(t) {
		devicetest.Run(t, card)
	}
}
