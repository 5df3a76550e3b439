package cpu

import (
	"fmt"
	"math"
)

// Reduce is how Columns joins the rows of a block.
type Reduce int

// The reductions.
const (
	Sum Reduce = iota // adds every row's weight
	Max               // keeps the largest weight
)

// Columns are the statistics from which policies choose: what every slot got
// of the attention of a block of queries of one KV head, once the log-sum-exp
// over all that these queries see is known.
//
//	dst     [group, slots] f32, not negative, joined with what it holds; slots = len(k)/headDim
//	q       [nq, step, headDim] f32, not yet scaled: of each row the first group
//	lse     [nq, group] natural log-sum-exp over all segments
//	k       [slots, headDim] bf16
//	visible [nq]: query i sees slots [0, visible[i])
//
// A weight is e^(scale·q·k − lse). Sum adds over the rows, in their order; Max
// takes the largest. A row whose lse is −Inf has seen nothing and adds nothing.
func Columns(isa ISA, dst, q, lse []float32, k []uint16, group, step, headDim int, visible []int32, scale float32, reduce Reduce, s *Scratch) {
	columns{dst, q, lse, slotRows{bf16: k}, group, step, headDim, len(k) / headDim, visible, scale, reduce}.run(isa, s)
}

// Raise makes dst the larger of dst and x, number by number, for the len(dst) first of x, both
// of softmax weights or sums of them: numbers that are not negative.
func Raise(dst, x []float32) { raise(machine, dst, x[:len(dst)]) }

// raiseRow is the portable Raise.
func raiseRow(dst, x []float32) {
	for i, p := range x {
		if p > dst[i] {
			dst[i] = p
		}
	}
}

func (c columns) run(isa ISA, s *Scratch) {
	c.check()
	if !c.assembly(isa, s) {
		c.portable(s)
	}
}

// columns is the arguments of Columns.
type columns struct {
	dst, q, lse                 []float32
	k                           slotRows
	group, step, headDim, slots int
	visible                     []int32
	scale                       float32
	reduce                      Reduce
}

// check panics when shapes disagree: a broken invariant of the caller.
func (c columns) check() {
	rows := len(c.visible) * c.group
	if len(c.q) < ((len(c.visible)-1)*c.step+c.group)*c.headDim || len(c.lse) < rows || len(c.dst) < c.group*c.slots {
		panic(fmt.Sprintf("cpu: columns of %d queries of %d over %d slots: q %d, lse %d, dst %d values",
			rows, c.headDim, c.slots, len(c.q), len(c.lse), len(c.dst)))
	}
	for _, n := range c.visible {
		if n < 0 || int(n) > c.slots {
			panic(fmt.Sprintf("cpu: columns of a query that sees %d of %d slots", n, c.slots))
		}
	}
}

// portable is the plain form, row by row.
func (c columns) portable(s *Scratch) {
	buffer := s.floats(c.headDim)
	for i, lse := range c.lse[:len(c.visible)*c.group] {
		if math.IsInf(float64(lse), -1) {
			continue
		}
		query, row := c.q[(i/c.group*c.step+i%c.group)*c.headDim:][:c.headDim], c.dst[i%c.group*c.slots:][:c.slots]
		for t := range row[:c.visible[i/c.group]] {
			p := float32(math.Exp(float64(dot(query, c.k.row(buffer, t))*c.scale - lse)))
			row[t] = c.reduce.join(row[t], p)
		}
	}
}

// join is the portable reduction of two weights.
func (r Reduce) join(a, b float32) float32 {
	if r == Max {
		return max(a, b)
	}
	return a + b
}
