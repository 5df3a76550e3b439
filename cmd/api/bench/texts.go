package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Embedder turns texts into unit vectors.
type Embedder interface {
	Embed(ctx context.Context, texts []string) ([][]float32, error)
	Tokens(text string) []int32 // what Embed reads of it
	MaxTokens() int
}

// Texts is the rate of embedding chunks, and the peer's with the same tokens.
type Texts struct {
	Tokens    int     `json:"tokens"` // of each chunk
	Chunks    int     `json:"chunks"` // of each run
	Runs      int     `json:"runs"`
	Value     float64 `json:"value"` // tokens/s, median
	PeerName  string  `json:"peer,omitempty"`
	PeerBatch int     `json:"peer_batch,omitempty"` // texts in a pass of the peer, the best of those tried
	PeerValue float64 `json:"peer_value,omitempty"`
	Ratio     float64 `json:"ratio,omitempty"`
}

// peerONNX is what `make peer` writes the embedder to.
const peerONNX = "peer/all-MiniLM-L6-v2.onnx"

// peerBatches are the texts in one pass that onnxruntime is tried with.
var peerBatches = []int{1, 4, 8}

// least is the cosine between our vector of a text and the peer's, below which the
// two do not compute the same.
const least = 0.9999

// MeasureTexts embeds chunks of full length, ours and onnxruntime in turn; with no
// assets, ours alone.
func MeasureTexts(ctx context.Context, e Embedder, assets string, threads, chunks, runs int, seed uint64, progress io.Writer) (_ *Texts, err error) {
	t := &Texts{Tokens: e.MaxTokens(), Chunks: chunks, Runs: runs}
	var peer *Peer
	if assets != "" {
		if peer, err = openONNX(ctx, assets, threads); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, peer.Close()) }()
		t.PeerName = peer.name
	}
	random := rand.New(rand.NewPCG(seed, 2))
	var own []float64
	theirs := make([][]float64, len(peerBatches))
	for range runs {
		texts := chunksOf(random, chunks, e.MaxTokens())
		began := time.Now()
		vectors, err := e.Embed(ctx, texts)
		if err != nil {
			return nil, err
		}
		own = append(own, t.rate(time.Since(began).Seconds()))
		fmt.Fprintf(progress, "embedding, ours: %.0f tokens/s\n", own[len(own)-1])
		for i, batch := range peerBatches {
			if peer == nil {
				break
			}
			seconds, err := peer.embed(e, texts, batch, vectors[0])
			if err != nil {
				return nil, err
			}
			theirs[i] = append(theirs[i], t.rate(seconds))
			fmt.Fprintf(progress, "embedding, %s by %d: %.0f tokens/s\n", t.PeerName, batch, t.rate(seconds))
		}
	}
	t.Value = median(own)
	for i, batch := range peerBatches {
		if peer == nil {
			break
		}
		if value := median(theirs[i]); value > t.PeerValue {
			t.PeerValue, t.PeerBatch, t.Ratio = value, batch, t.Value/value
		}
	}
	return t, nil
}

func (t *Texts) rate(seconds float64) float64 { return float64(t.Tokens*t.Chunks) / seconds }

func openONNX(ctx context.Context, assets string, threads int) (*Peer, error) {
	return openPeer(ctx, assets, "onnx.py", struct {
		Model   string `json:"model"`
		Threads int    `json:"threads"`
	}{filepath.Join(assets, peerONNX), threads})
}

// embed has the peer embed the texts, and checks that it computes what we do.
func (p *Peer) embed(e Embedder, texts []string, batch int, want []float32) (seconds float64, err error) {
	ids := make([][]int32, len(texts))
	for i, text := range texts {
		if ids[i] = e.Tokens(text); len(ids[i]) != e.MaxTokens() {
			return 0, fmt.Errorf("a chunk has %d tokens, want %d", len(ids[i]), e.MaxTokens())
		}
	}
	var reply struct {
		Seconds float64
		Vector  []float32
	}
	if err := p.ask(struct {
		Texts [][]int32 `json:"texts"`
		Batch int       `json:"batch"`
	}{ids, batch}, &reply); err != nil {
		return 0, err
	}
	if got := cosine(reply.Vector, want); !(got >= least) || !(reply.Seconds > 0) {
		return 0, fmt.Errorf("%s gives another vector of the same text, cosine %.6f, after %.3f s", p.name, got, reply.Seconds)
	}
	return reply.Seconds, nil
}

// cosine is that of two vectors, NaN where they have no common length.
func cosine(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.NaN()
	}
	var dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb = dot+x*y, aa+x*x, bb+y*y
	}
	return dot / math.Sqrt(aa*bb)
}

// chunksOf are texts of at least the tokens that are read: words that each are one
// or more.
func chunksOf(random *rand.Rand, chunks, tokens int) []string {
	vocabulary := strings.Fields(`a budget of memory is what the cache keeps when a token leaves and another comes the
		reader sees passages that search has found in many documents on networks storage processors kernels harbours rivers
		parliaments quantum orchestras constitutions`)
	texts := make([]string, chunks)
	for i := range texts {
		text := make([]string, tokens)
		for at := range text {
			text[at] = vocabulary[random.IntN(len(vocabulary))]
		}
		texts[i] = strings.Join(text, " ")
	}
	return slices.Clip(texts)
}
