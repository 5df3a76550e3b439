package cpu

import xcpu "golang.org/x/sys/cpu"

// detect tells the fastest instruction set that processor and system support.
func detect() ISA {
	x := &xcpu.X86
	avx2 := x.HasAVX2 && x.HasFMA && x.HasAVX && x.HasBMI2
	avx512 := avx2 && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512DQ && x.HasAVX512VNNI
	switch {
	case avx512 && x.HasAVX512BF16 && x.HasAMXTile && x.HasAMXInt8 && allowTiles():
		return AMX
	case avx512 && x.HasAVX512BF16:
		return AVX512BF16
	case avx512:
		return AVX512
	case avx2:
		return AVX2
	}
	return Portable
}
