package cuda

import (
	"fmt"
	"math"

	"lessrag/lesskernels/cuda/device"
)

// Of src/build.py: how many of the likeliest tokens of a row are found at most, and what the search takes at a time.
const (
	Likeliest    = 64
	likelyBlock  = 4096
	likelyBlocks = 64

	MostVocab = likelyBlock * likelyBlocks // tokens that can be searched
)

// Likely is a search for the likeliest tokens of rows of logits.
type Likely struct {
	Rows, Vocab int
	Logits      device.Pointer // [rows, vocab] f32
	Count       device.Pointer // [rows] i32: how many are wanted
	Heat        device.Pointer // [rows] f32: temperatures of the sums
	Scratch     device.Pointer // of LikelyScratch bytes
	Out         device.Pointer // [rows, Likeliest + 1] i64: the keys, and the sum: see LikelyToken and LikelySum
}

// LikelyScratch is how many bytes a search takes beside its results.
func LikelyScratch(rows, vocab int) int64 {
	return int64(rows) * int64(blocks(vocab, likelyBlock)) * (8*Likeliest + 8)
}

// Likely finds of every row the tokens with the highest logits, the first highest, and the sum of
// exp((logit − the highest) / temperature) over all tokens.
func (k *Kernels) Likely(s device.Stream, l *Likely) error {
	n := blocks(l.Vocab, likelyBlock)
	if n > likelyBlocks {
		return fmt.Errorf("cuda: %d tokens are too many to search", l.Vocab)
	}
	sums := l.Scratch + device.Pointer(l.Rows*n*8*Likeliest)
	err := k.launch(s, "likely_of_blocks", device.Grid{X: n, Y: l.Rows, Z: 1}, address(l.Logits), address(l.Count), address(l.Heat),
		address(l.Scratch), address(sums), device.I32(l.Vocab))
	if err != nil {
		return err
	}
	return k.launch(s, "likely_of_all", device.Grid{X: l.Rows, Y: 1, Z: 1}, address(l.Scratch), address(sums), address(l.Count), address(l.Heat),
		address(l.Out), device.I32(n))
}

// LikelyToken is what a key stands for.
func LikelyToken(key int64) (token int32, logit float32) {
	ordered := int32(key >> 32)
	return math.MaxInt32 - int32(key), math.Float32frombits(uint32(ordered ^ ordered>>31&math.MaxInt32))
}

// LikelySum is the sum behind the keys of a row.
func LikelySum(last int64) float32 { return math.Float32frombits(uint32(last)) }
