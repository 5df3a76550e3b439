package cuda

import (
	"encoding/binary"

	"github.com/x448/float16"
)

// bits are a little-endian binary16 as it is.
func bits(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }

// half reads a little-endian binary16.
func half(b []byte) float32 { return float16.Frombits(bits(b)).Float32() }

// toHalf rounds to binary16, to the nearest.
func toHalf(x float32) uint16 { return float16.Fromfloat32(x).Bits() }
