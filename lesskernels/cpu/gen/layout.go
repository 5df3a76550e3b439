package main

import (
	"fmt"
	"strings"
)

// layout repeats package cpu's layouts of a panel of 16 rows.
type layout int

const (
	floats layout = iota
	halves
	brains
	nibbles
	nibblesMin
	octets
	octetsMin
	octetsHalves
	words
)

// layoutNames are the names in package cpu.
var layoutNames = []string{"floats", "halves", "brains", "nibbles", "nibblesMin", "octets", "octetsMin", "octetsHalves", "words"}

// hasMin tells whether minima are stored beside the scales.
func (l layout) hasMin() bool { return l == nibblesMin || l == octetsMin }

// codeBytes is the codes of one block of 16 rows.
func (l layout) codeBytes() int {
	switch l {
	case nibbles, nibblesMin:
		return 256
	case words:
		return wordLines * 64
	}
	return 512
}

// unitBytes is 16 rows of one column of plain numbers.
func (l layout) unitBytes() int {
	if l == floats {
		return 64
	}
	return 32
}

// scaleBytes is the scales, and minima or second scales, of one block of 16 rows.
func (l layout) scaleBytes() int {
	if l.hasMin() || l == octetsHalves || l == words {
		return 64
	}
	return 32
}

// mulName is the kernel's function name.
func mulName(l layout, n int, isa string) string {
	return fmt.Sprintf("mul%s%d%s", strings.ToUpper(layoutNames[l][:1])+layoutNames[l][1:], n, isa)
}

// mulSignature is that of every product kernel: see mulKernel in package cpu.
const mulSignature = "func(dst *float32, stride uintptr, x *uint32, codes, scales *byte, units, ahead uintptr)"
