package model

import (
	"encoding/json"
	"sync/atomic"
	"time"
)

// Stage is a part of a pass whose time a Clock adds up.
type Stage int

// The stages of a pass. A function that is computed in the same tasks as a product,
// as SwiGLU is, counts as that product.
const (
	Engine    Stage = iota // between two passes: scheduling, sending, and what a pass sets up
	Rows                   // embedding: what is done to one row alone, apart from products
	Matmul                 // products with the layers' matrices, and what threads do to their inputs and results: norms, rounding, RoPE
	Attention              //
	Cache                  // making room and evicting; an answer's token is stored where it is attended to
	Logits                 // the product with the output matrix
	Sampling               // choosing tokens
	stageCount
)

// String is the stage's name in tables and JSON.
func (s Stage) String() string {
	return [...]string{"engine", "rows", "matmul", "attention", "cache", "logits", "sampling"}[s]
}

// Clock adds up the wall time of stages. Its zero value is ready; a nil Clock reads
// no time. Start, Pass and Mark belong to the goroutine of the passes, Profile to anyone.
type Clock struct {
	last   time.Time
	passes atomic.Int64
	spent  [stageCount]atomic.Int64 // nanoseconds
}

// Start sets the clock: the time before it belongs to no stage.
func (c *Clock) Start() {
	if c != nil {
		c.last = time.Now()
	}
}

// Pass counts a pass, which begins now: the time since Start was the Engine's.
func (c *Clock) Pass() {
	if c != nil {
		c.passes.Add(1)
		c.Mark(Engine)
	}
}

// Mark gives the time since the last Mark or Start to a stage.
func (c *Clock) Mark(s Stage) {
	if c != nil {
		now := time.Now()
		c.spent[s].Add(int64(now.Sub(c.last)))
		c.last = now
	}
}

// Profile is what was added up so far: zeros from a nil Clock.
func (c *Clock) Profile() Profile {
	var p Profile
	if c != nil {
		p.Passes = c.passes.Load()
		for s := range p.Spent {
			p.Spent[s] = time.Duration(c.spent[s].Load())
		}
	}
	return p
}

// Profile tells where the time of some passes went.
type Profile struct {
	Passes int64
	Spent  [stageCount]time.Duration // by Stage
}

// Since is what came after an earlier Profile of the same Clock.
func (p Profile) Since(earlier Profile) Profile {
	p.Passes -= earlier.Passes
	for s := range p.Spent {
		p.Spent[s] -= earlier.Spent[s]
	}
	return p
}

// Total is the time of all stages.
func (p Profile) Total() time.Duration {
	var total time.Duration
	for _, d := range p.Spent {
		total += d
	}
	return total
}

// MarshalJSON gives the passes, and the milliseconds of each stage in a pass.
func (p Profile) MarshalJSON() ([]byte, error) {
	ms := map[string]float64{}
	for s, d := range p.Spent {
		ms[Stage(s).String()] = float64(d) / float64(max(p.Passes, 1)) / float64(time.Millisecond)
	}
	return json.Marshal(struct {
		Passes int64              `json:"passes"`
		Ms     map[string]float64 `json:"ms_per_pass"`
	}{p.Passes, ms})
}
