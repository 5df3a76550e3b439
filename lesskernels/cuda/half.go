package cuda

import (
	"encoding/binary"

	"github.com/x448/float16"
)

// half reads a little-endian binary16.
func half(b []byte) float32 { return float16.Frombits(binary.LittleEndian.Uint16(b)).Float32() }

// toHalf rounds to binary16, to the nearest.
func toHalf(x float32) uint16 { return float16.Fromfloat32(x).Bits() }
