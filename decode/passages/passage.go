// Package passages keeps what a model has computed of passages, so that one that
// is asked about again is not read again: keys and values of all of its tokens
// (CacheBlend, arXiv 2405.16444), or its heavy hitters and the state of the rest (a
// passage memory). It knows neither models nor caches.
package passages

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Key names what was computed, by whom and for whom. Passages of one tenant are
// never found by another, whatever they say.
type Key struct {
	tenant, name string // hashes, hexadecimal
}

// NewKey names the passage tokens as they stand behind head. model names all that
// computed them: weights, feature maps, arithmetic. kind tells what is kept of them.
func NewKey(model, tenant, kind string, head, tokens []int32) Key {
	h := sha256.New()
	for _, text := range []string{model, tenant, kind} {
		binary.Write(h, binary.LittleEndian, int64(len(text)))
		h.Write([]byte(text))
	}
	for _, ids := range [][]int32{head, tokens} {
		binary.Write(h, binary.LittleEndian, int64(len(ids)))
		binary.Write(h, binary.LittleEndian, ids)
	}
	return Key{tenant: tenantName(tenant), name: hex.EncodeToString(h.Sum(nil))}
}

func tenantName(tenant string) string {
	sum := sha256.Sum256([]byte(tenant))
	return hex.EncodeToString(sum[:16])
}

// Passage is what is kept of a passage. It is never changed once it is stored.
type Passage struct {
	Tokens int    // of the passage
	First  int    // position of its first token when it was computed
	Heads  []Head // [layers·kvHeads]
}

// Head is what one KV head holds of a passage.
type Head struct {
	K, V      []uint16  // [n, headDim] bf16, keys post-RoPE at the positions where they were computed
	Positions []int32   // [n] tokens of the passage, from 0, rising; nil: all of them
	Absorbed  int       // tokens that live on in State
	State     []float32 // numbers of a state; nil: none
	Clock     int       // position, where they were computed, that the state has faded to
}

// Bytes is the memory that a passage takes.
func (p *Passage) Bytes() int64 {
	var n int64
	for i := range p.Heads {
		h := &p.Heads[i]
		n += int64(2*(len(h.K)+len(h.V)) + 4*(len(h.Positions)+len(h.State)))
	}
	return n
}
