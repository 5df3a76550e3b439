package main

import op "github.com/mmcloughlin/avo/operand"

// pause writes the wait of a spinning thread, which leaves the core's resources to
// a sibling and is no branch that the processor would run ahead on.
func pause(k *kernels) {
	p := k.begin("pause", "func(rounds uintptr)", "does nothing for about 40 cycles a round; rounds is at least 1.", "rounds")
	k.Label("round")
	k.PAUSE()
	k.DECQ(p[0])
	k.JNE(op.LabelRef("round"))
	k.RET()
	prefetch(k)
}

// prefetch asks for lines that will be read.
func prefetch(k *kernels) {
	p := k.begin("prefetch", "func(from *byte, lines uintptr)", "asks for some lines of memory; lines is at least 1.", "from", "lines")
	k.Label("line")
	k.PREFETCHT1(op.Mem{Base: p[0]})
	k.ADDQ(op.U32(64), p[0])
	k.DECQ(p[1])
	k.JNE(op.LabelRef("line"))
	k.RET()
}
