package model

import (
	"encoding/json"
	"testing"
	"time"

	"lessrag/decode/cache"
)

// A pass gives its time to the stages that it has, and to nothing else.
func TestClockOfAPass(t *testing.T) {
	c := newCPU(t, tinyPath, Int8, Limits{Tokens: 64, Sequences: 2})
	clock := &Clock{}
	c.Clock = clock
	s := newSequence(t, c, "full", cache.Budget{})
	began := time.Now()
	clock.Start()
	forward(t, c, Work{Sequence: s, Tokens: []int32{1, 2, 3}, Logits: true})
	first := clock.Profile()
	clock.Start()
	forward(t, c, Work{Sequence: s, Tokens: []int32{4}})
	took := time.Since(began)

	all := clock.Profile()
	second := all.Since(first)
	if first.Passes != 1 || second.Passes != 1 || all.Passes != 2 {
		t.Errorf("passes: %d, then %d, of %d", first.Passes, second.Passes, all.Passes)
	}
	for _, s := range []Stage{Engine, Rows, Matmul, Attention, Cache} {
		if first.Spent[s] <= 0 || second.Spent[s] <= 0 {
			t.Errorf("%v took %v and %v", s, first.Spent[s], second.Spent[s])
		}
	}
	if first.Spent[Logits] <= 0 || all.Spent[Sampling] != 0 {
		t.Errorf("logits took %v, sampling, which a pass does not do, %v", first.Spent[Logits], all.Spent[Sampling])
	}
	if all.Total() > took || all.Total() != first.Total()+second.Total() {
		t.Errorf("%v and %v of %v", first.Total(), second.Total(), took)
	}
}

func TestNilClock(t *testing.T) {
	var c *Clock
	c.Start()
	c.Pass()
	c.Mark(Matmul)
	if p := c.Profile(); p != (Profile{}) {
		t.Errorf("%+v", p)
	}
}

func TestProfileJSON(t *testing.T) {
	p := Profile{Passes: 4}
	p.Spent[Attention] = 6 * time.Millisecond
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Passes int64              `json:"passes"`
		Ms     map[string]float64 `json:"ms_per_pass"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Passes != 4 || len(got.Ms) != int(stageCount) || got.Ms["attention"] != 1.5 {
		t.Errorf("%s", data)
	}
}
