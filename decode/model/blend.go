package model

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"lessrag/decode/cache"
	"lessrag/decode/passages"
)

// Blend is CacheBlend (arXiv 2405.16444): a prompt some of whose passages were
// computed before, each by itself, so that their keys and values know nothing of what
// stands before them here. The first layer computes every row of the prompt. The
// second compares the keys and values that follow from it with the stored ones; the
// rows that deviate most go on, a share of the passages' rows, and from layer to layer
// slightly fewer of them. Rows outside stored passages, and the last one, are always computed. What was
// computed of a row takes the place of what was stored, and a row at position p sees
// the keys at positions up to p, whatever rows are computed beside it.
//
// The caller fills the exported fields and calls Blend of a backend until it is done.
type Blend struct {
	Desk     Sequence // an empty one made with cache.NewDesk, with a slot for every token
	Tokens   []int32
	Places   []Place // rising, without overlap
	Share    float64 // of the rows of Places that are computed in a layer, on average over the layers after the first; 1: all
	Question int     // how many of the last Tokens are the question's, for caches that observe them

	Logits   []float32 // [vocab] after the last token, when done; valid until the next call of the backend
	Computed int       // rows that were computed in a layer, on average over the layers after the first

	device     blender // nil before it begins
	config     Config
	stored     []bool      // [tokens] the row is part of a Place
	candidates int         // how many are
	layer      int         // that is being computed
	attending  bool        // its keys are all there
	observed   int         // the first position whose attention the cache wants to see; the number of tokens where it wants none
	rows       []int       // positions that the layer computes, rising
	at         int         // of them, how many were done
	apart      []deviation // [tokens] of computed keys and values from the stored ones
	total      int         // rows over the layers after the first

	trace func(layer int, rows []int) // nil, or told which rows a layer computes: for tests
}

// blender is what a device does of one Blend. Chunks are positions of the prompt, rising.
type blender interface {
	// begin lays tokens and passages out on the desk.
	begin()

	// keys computes queries, keys and values of a layer's rows, sees how far keys and values are from the stored ones and
	// stores them.
	keys(layer int, chunk []int)

	// attend takes rows through the rest of the layer. Those from a position on are observed.
	attend(layer int, chunk []int, observed int)

	// finish computes the logits and hands the desk over.
	finish() []float32
}

// Place is a stored passage in a prompt.
type Place struct {
	At      int // position of its first token
	Passage *passages.Passage
}

// deviation is how far a row's keys and values are from those that were stored of its token, over the KV heads of a layer.
type deviation struct {
	KeyApart, ValueApart float32 // squared distances
	KeySize, ValueSize   float32 // squared lengths of the row's
}

// The share of rows falls linearly over the layers, from this much above the average
// to this much below.
const gradual = 0.25

// begin checks a Blend of a model of which a passage's KV heads have stored numbers for a token, and lets a device begin it:
// books are its desk, or know what lies there.
func (b *Blend) begin(config Config, stored int, books *cache.Sequence, device blender) error {
	n := len(b.Tokens)
	switch p := b.Desk.Plan(); {
	case !p.Staging || b.Desk.Position() != 0 || slices.Min(p.Slots) < n:
		return fmt.Errorf("model: a blend of %d tokens on a desk of %d", n, p.Keep)
	case n == 0 || n > config.Context:
		return fmt.Errorf("model: a blend of %d tokens, outside 1…%d", n, config.Context)
	case !(b.Share >= 0 && b.Share <= 1):
		return fmt.Errorf("model: a blend of a share of %v, outside 0…1", b.Share)
	case b.Question < 0 || b.Question > n:
		return fmt.Errorf("model: a blend of %d tokens, of which %d are a question", n, b.Question)
	}
	for i, token := range b.Tokens {
		if token < 0 || int(token) >= config.Vocab {
			return fmt.Errorf("model: token %d of a blend is %d, outside the vocabulary of %d", i, token, config.Vocab)
		}
	}
	end := 0
	for i, p := range b.Places {
		if p.At < end || p.At+p.Passage.Tokens > n {
			return fmt.Errorf("model: passage %d of a blend stands at %d, after one that ends at %d, of %d tokens", i, p.At, end, n)
		}
		if err := fits(p.Passage, config, stored); err != nil {
			return fmt.Errorf("model: passage %d of a blend: %w", i, err)
		}
		end = p.At + p.Passage.Tokens
	}
	b.device, b.config = device, config
	b.observed, _ = books.Observed(n, b.Question)
	b.stored, b.apart = make([]bool, n), make([]deviation, n)
	for _, p := range b.Places {
		for at := p.At; at < min(p.At+p.Passage.Tokens, n-1); at++ { // the last row is what the next token follows from
			b.stored[at] = true
			b.candidates++
		}
	}
	for at := range n {
		if b.Share > 0 || !b.stored[at] {
			b.rows = append(b.rows, at)
		}
	}
	device.begin()
	return nil
}

// run goes on for about as long as a pass of rows tokens takes, of which there are most at a time.
func (b *Blend) run(rows, most int) (done bool) {
	for left := rows * b.config.Layers; left > 0; {
		if b.layer == b.config.Layers {
			b.Logits = b.device.finish()
			b.Computed = b.total / max(1, b.config.Layers-1)
			b.apart = nil
			return true
		}
		left -= b.step(most)
	}
	return false
}

// fits tells what is wrong with a passage for a model, nil if nothing.
func fits(p *passages.Passage, config Config, stored int) error {
	if len(p.Heads) != config.Layers*config.KVHeads {
		return fmt.Errorf("it has %d KV heads, the model %d", len(p.Heads), config.Layers*config.KVHeads)
	}
	for i := range p.Heads {
		if h := &p.Heads[i]; h.Positions != nil || len(h.K) != p.Tokens*stored || len(h.V) != len(h.K) {
			return fmt.Errorf("KV head %d does not hold its %d tokens", i, p.Tokens)
		}
	}
	return nil
}

// step does up to rows rows of a layer's keys, or of the rest of the layer, and
// returns how many it did.
func (b *Blend) step(rows int) int {
	chunk := b.rows[b.at:min(len(b.rows), b.at+rows)]
	if !b.attending {
		b.device.keys(b.layer, chunk)
	} else {
		b.device.attend(b.layer, chunk, b.observed)
	}
	if b.at += len(chunk); b.at < len(b.rows) {
		return len(chunk)
	}
	b.at = 0
	if b.attending = !b.attending; b.attending {
		b.choose()
		return len(chunk)
	}
	b.layer++
	return len(chunk)
}

// choose leaves, of the rows whose keys the layer has computed, those that go on.
// Distances of keys and values are compared by what keys and values measure on
// average in the layer. The last layer's rows serve nothing but the last row and what
// is observed.
func (b *Blend) choose() {
	if b.layer > 0 {
		b.deviating(b.goOn())
		b.total += len(b.rows)
	}
	if b.trace != nil {
		b.trace(b.layer, b.rows)
	}
	if b.layer == b.config.Layers-1 {
		first := min(b.observed, len(b.Tokens)-1)
		b.rows = slices.DeleteFunc(b.rows, func(at int) bool { return at < first })
	}
}

// goOn is how many rows of stored passages this layer leaves.
func (b *Blend) goOn() int {
	if b.Share == 1 {
		return b.candidates
	}
	along := 0.5
	if last := b.config.Layers - 1; last > 1 {
		along = float64(b.layer-1) / float64(last-1)
	}
	share := b.Share * (1 + gradual - 2*gradual*along)
	return int(math.Round(share * float64(b.candidates)))
}

// deviating drops all rows of stored passages but the n that deviate most; of equal
// ones the later stay.
func (b *Blend) deviating(n int) {
	var k, v float64
	var stored []int
	for _, at := range b.rows {
		if b.stored[at] {
			stored = append(stored, at)
			k += float64(b.apart[at].KeySize)
			v += float64(b.apart[at].ValueSize)
		}
	}
	if n >= len(stored) {
		return
	}
	deviation := func(at int) float64 {
		return float64(b.apart[at].KeyApart)/max(k, math.SmallestNonzeroFloat32) + float64(b.apart[at].ValueApart)/max(v, math.SmallestNonzeroFloat32)
	}
	slices.SortFunc(stored, func(x, y int) int { return cmp.Or(cmp.Compare(deviation(x), deviation(y)), cmp.Compare(x, y)) })
	dropped := make(map[int]bool, len(stored)-n)
	for _, at := range stored[:len(stored)-n] {
		dropped[at] = true
	}
	b.rows = slices.DeleteFunc(b.rows, func(at int) bool { return dropped[at] })
}
