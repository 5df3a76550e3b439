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
}
