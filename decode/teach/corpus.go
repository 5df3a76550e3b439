// Package teach trains the feature maps of LESS for a reader: it runs the
// frozen model as the teacher, one layer at a time, follows eviction policies
// through its attention, fits a map to each layer, and gates every state by
// what it is worth on text that was not trained on.
package teach

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
)

// Document is one file's tokens.
type Document struct {
	Name   string
	Tokens []int32
}

// Corpus is what is trained on and what is held out: windows of tokens, of
// documents that do not meet.
type Corpus struct {
	Train, HeldOut [][]int32
	Names          []string // of the documents trained on
}

// The pieces of a window that joins several documents.
const (
	leastPiece = 256
	mostPiece  = 900
)

// heldOutEvery document is held out, whatever is cut from it.
const heldOutEvery = 6

// held tells whether a document is held out, by its name.
func held(name string) bool {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()%heldOutEvery == 0
}

// Cut makes windows of length tokens: half of them from one document, half from
// pieces of several, as packed passages are. separator stands between pieces.
// The same documents give the same windows, in whatever order they come.
func Cut(documents []Document, separator []int32, length, train, heldOut int) (Corpus, error) {
	documents = slices.Clone(documents)
	slices.SortFunc(documents, func(a, b Document) int { return strings.Compare(a.Name, b.Name) })
	rng := rand.New(rand.NewPCG(7, uint64(length)))
	rng.Shuffle(len(documents), func(i, j int) { documents[i], documents[j] = documents[j], documents[i] })
	var kept, left []Document
	for _, d := range documents {
		if held(d.Name) {
			left = append(left, d)
		} else {
			kept = append(kept, d)
		}
	}
	var c Corpus
	for _, part := range []struct {
		name      string
		documents []Document
		windows   *[][]int32
		n         int
	}{{"trained on", kept, &c.Train, train}, {"held out", left, &c.HeldOut, heldOut}} {
		total := 0
		for _, d := range part.documents {
			total += len(d.Tokens)
		}
		if total < length {
			return Corpus{}, fmt.Errorf("teach: %d documents of %d tokens that are %s are too few for a window of %d tokens",
				len(part.documents), total, part.name, length)
		}
		k := cutter{rng: rng, documents: part.documents, separator: separator}
		for i := range part.n {
			*part.windows = append(*part.windows, k.window(length, i%2 == 0))
		}
	}
	for _, d := range kept {
		c.Names = append(c.Names, d.Name)
	}
	slices.Sort(c.Names)
	return c, nil
}

// cutter goes through documents in turn.
type cutter struct {
	rng       *rand.Rand
	documents []Document
	separator []int32
	next      int
}

func (k *cutter) document() []int32 {
	d := k.documents[k.next%len(k.documents)].Tokens
	k.next++
	return d
}

// window takes one document where it should and can, else pieces of several.
func (k *cutter) window(length int, whole bool) []int32 {
	if whole {
		for range k.documents {
			if d := k.document(); len(d) >= length {
				from := k.rng.IntN(len(d) - length + 1)
				return slices.Clone(d[from : from+length])
			}
		}
	}
	var w []int32
	for len(w) < length {
		d := k.document()
		n := leastPiece + k.rng.IntN(mostPiece-leastPiece)
		from := 0
		if len(d) > n && k.rng.IntN(2) == 0 {
			from = k.rng.IntN(len(d) - n)
		}
		w = append(w, d[from:min(len(d), from+n)]...)
		w = append(w, k.separator...)
	}
	return w[:length:length]
}
