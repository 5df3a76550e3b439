package cpu

// PackTokens is how many consecutive tokens are packed together: a group's keys
// share a scale and a minimum for each channel.
const PackTokens = 32

// packLanes is how many codes a row has: the tokens of a group for a row of keys, which is
// one channel, and some channels for a row of values, which is one token.
const packLanes = 32

// packLine is the codes that one 64-byte register of a row kernel takes at once.
const packLine = 64

// Packing is how the keys and values of a KV head are stored when they have left
// its 16-bit part. With 2 or 4 bits it is KIVI's (arXiv 2402.02750): keys per
// channel over 32 tokens, values per token over 32 channels, x ≈ code·scale + minimum with
// scale and minimum in binary16. With 16 bits it is bf16. A group of 32 tokens is one
// piece of memory, in 16-bit words:
//
//	key codes    [Keys, padded][32 tokens]
//	key scales   [Keys, padded] binary16, then minima; neither with 16 bits
//	value codes  [blocks of 32 channels][32 tokens][32 channels]
//	value scales [blocks][32 tokens] binary16, then minima
//
// Rows of codes are stored line by line: see packRow.
type Packing struct {
	Bits   int // of a code: 2, 4 or 16
	Keys   int // channels that a key keeps
	Values int // channels of a value
}

// rowsPerLine is how many rows share a line of 64 bytes.
func (p Packing) rowsPerLine() int { return 16 / p.Bits }

// keyRows is Keys in whole lines.
func (p Packing) keyRows() int {
	n := p.rowsPerLine()
	return (p.Keys + n - 1) / n * n
}

// blocks is how many blocks of channels a value has; the last may be partly empty.
func (p Packing) blocks() int { return (p.Values + packLanes - 1) / packLanes }

// rowWords is one row of codes.
func (p Packing) rowWords() int { return packLanes * p.Bits / 16 }

// scaleWords is the scales and minima of n rows.
func (p Packing) scaleWords(n int) int {
	if p.Bits == 16 {
		return 0
	}
	return 2 * n
}

// keyWords is the part of a group that holds keys.
func (p Packing) keyWords() int { return p.keyRows()*p.rowWords() + p.scaleWords(p.keyRows()) }

// Words is the size of a group in 16-bit words.
func (p Packing) Words() int {
	rows := p.blocks() * PackTokens
	return p.keyWords() + rows*p.rowWords() + p.scaleWords(rows)
}
