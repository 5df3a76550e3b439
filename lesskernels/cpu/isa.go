// Package cpu is the decoder's arithmetic on processors: weights repacked once
// into the order in which kernels read them, int8 products for quantised
// types, attention over bf16 keys and values, and the small functions between.
//
// Every function has a portable Go form, which is the oracle of the assembly
// that package gen writes. A row of a product is computed by the same sequence
// of operations whatever the number of rows beside it, so the result for one
// token does not depend on the batch it came in.
package cpu

import "os"

//go:generate go run ./gen

// ISA is an instruction set that the kernels are written for.
type ISA int

// The instruction sets, slowest first.
const (
	Portable   ISA = iota // plain Go
	AVX2                  // AVX2, FMA and BMI2
	AVX512                // AVX-512 F, BW, VL, DQ and VNNI
	AVX512BF16            // the same and BF16, which has kernels of its own for attention alone
	AMX                   // the same and AMX of int8, which has kernels of its own for products of many tokens
)

// String is the name that LESSRAG_ISA takes.
func (i ISA) String() string {
	switch i {
	case AMX:
		return "amx"
	case AVX512BF16:
		return "avx512bf16"
	case AVX512:
		return "avx512"
	case AVX2:
		return "avx2"
	}
	return "portable"
}

var machine = chooseISA(detect(), os.Getenv("LESSRAG_ISA"))

// Best is the fastest instruction set of this machine. The environment
// variable LESSRAG_ISA (portable, avx2, avx512, avx512bf16 or amx) lowers it; a name that the
// machine does not have, or that is unknown, changes nothing.
func Best() ISA { return machine }

// ofProducts is the set without those that have no kernels of their own for products.
func (i ISA) ofProducts() ISA {
	if i == AVX512BF16 {
		return AVX512
	}
	return i
}

// chooseISA lowers what the machine has to what the environment asks for.
func chooseISA(has ISA, want string) ISA {
	for _, i := range []ISA{Portable, AVX2, AVX512, AVX512BF16, AMX} {
		if i.String() == want && i < has {
			return i
		}
	}
	return has
}
