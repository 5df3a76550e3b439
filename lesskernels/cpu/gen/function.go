package main

import (
	"github.com/mmcloughlin/avo/attr"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// begin opens a function; params are loaded into general registers in order.
func (k *kernels) begin(name, signature, doc string, params ...string) []reg.GPVirtual {
	k.Function(name)
	k.Attributes(attr.NOSPLIT)
	k.Pragma("noescape")
	k.SignatureExpr(signature)
	k.Doc(name + " " + doc)
	regs := make([]reg.GPVirtual, len(params))
	for i, p := range params {
		regs[i] = k.GP64()
		k.Load(k.Param(p), regs[i])
	}
	return regs
}

// end returns from a function that used wide registers.
func (k *kernels) end() {
	k.VZEROUPPER()
	k.RET()
}

// paramMem is the stack slot of a parameter.
func (k *kernels) paramMem(name string) op.Mem {
	basic, err := k.Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return basic.Addr
}
