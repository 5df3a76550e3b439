package bench

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// measured is a Measured whose runs take these seconds to the first token and for
// the others.
func measured(c Contender, w Work, seconds ...[2]float64) Measured {
	m := Measured{Contender: c, Work: w}
	for _, s := range seconds {
		m.Timings = append(m.Timings, Timing{First: time.Duration(s[0] * 1e9), Decode: time.Duration(s[1] * 1e9), Held: 1e9})
	}
	return m
}

var (
	full   = Contender{Name: "ours, full", Cache: "full", File: "a.Q4_1.gguf"}
	sinks  = Contender{Name: "ours, sinks 5%", Cache: "sinks", Budget: "5%", File: "a.Q4_1.gguf"}
	same   = Contender{Name: "peer, Q4_1", Cache: "full", File: "a.Q4_1.gguf", Peer: true}
	better = Contender{Name: "peer, Q4_0", Cache: "full", File: "a.Q4_0.gguf", Peer: true}
)

func someResults() Results {
	short, long := Work{Prompt: 1, Tokens: 101, Batch: 1}, Work{Prompt: 8000, Tokens: 101, Batch: 1}
	busy, eight := short, short
	busy.Busy, eight.Batch = 2, 8
	r := Results{
		Date: "2026-01-02", Commands: []string{"bin/api bench <&>"}, Limits: Limits{ReadGBs: 20, Int8GOPs: 1000},
		Machine: Machine{"linux/amd64", "A processor", "avx512", 2}, Model: Model{"A model", "a.Q4_1.gguf", 3e9, 1e8},
		Measured: []Measured{
			measured(full, short, [2]float64{0.01, 0.5}, [2]float64{0.01, 0.25}, [2]float64{0.01, 1}),
			measured(sinks, short, [2]float64{0.01, 0.5}),
			measured(same, short, [2]float64{0.01, 2}), measured(better, short, [2]float64{0.01, 1}),
			measured(full, long, [2]float64{4, 1}), measured(sinks, long, [2]float64{2, 0.5}),
			measured(same, long, [2]float64{10, 4}), measured(better, long, [2]float64{8, 5}),
			measured(full, eight, [2]float64{0.01, 1}), measured(better, eight, [2]float64{0.01, 4}),
			measured(full, busy, [2]float64{0.01, 1}), measured(better, busy, [2]float64{0.01, 10}), measured(same, busy, [2]float64{0.01, 8}),
		},
	}
	r.Finish()
	return r
}

func (r Results) find(t *testing.T, work, cache string, depth, batch int) Row {
	t.Helper()
	for _, row := range r.Rows {
		if row.Work == work && row.Cache == cache && row.Depth == depth && row.Batch == batch {
			return row
		}
	}
	t.Fatalf("no row for %s with %s at depth %d, batch %d", work, cache, depth, batch)
	return Row{}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-9*math.Abs(want)) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestRows(t *testing.T) {
	r := someResults()
	row := r.find(t, "decode", "full", 0, 1)
	near(t, "the median of three", row.Value, 200)
	near(t, "the least", row.Low, 100)
	near(t, "the highest", row.High, 400)
	near(t, "the better peer", row.PeerValue, 100)
	near(t, "the ratio", row.Ratio, 2)
	near(t, "the ratio on the same file", row.SameRatio, 4)
	near(t, "the share of the bandwidth: 4 GB in each of 200 steps", row.OfLimit, 4*200/20.)
	if row.PeerName != better.Name {
		t.Errorf("the best peer is %q", row.PeerName)
	}

	row = r.find(t, "decode", "full", 8000, 1)
	near(t, "the ratio at depth", row.Ratio, 4)
	if row.PeerName != same.Name {
		t.Errorf("the best peer at depth is %q", row.PeerName)
	}
	row = r.find(t, "ttft", "sinks", 0, 1)
	near(t, "milliseconds to the first token", row.Value, 2000)
	near(t, "times sooner", row.Ratio, 4)
	near(t, "times sooner on the same file", row.SameRatio, 5)
	row = r.find(t, "prefill", "full", 0, 1)
	near(t, "prefill", row.Value, 2000)
	near(t, "the share of the int8 rate", row.OfLimit, 2*1e8*2000/1e12)
	row = r.find(t, "kept", "full", 0, 1)
	near(t, "the share kept", row.Value, 0.5)
	near(t, "the best share that a peer keeps", row.PeerValue, 0.25)
	near(t, "eight together", r.find(t, "decode", "full", 0, 8).Value, 800)
}

// A run's share is of the higher probe beside it, and the row's is the median of those.
func TestShareOfProbes(t *testing.T) {
	r := someResults()
	timings := r.Measured[0].Timings // 200, 400 and 100 tokens/s of 4 GB each
	timings[0].Reads, timings[1].Reads, timings[2].Reads = [2]float64{10, 40}, [2]float64{100, 50}, [2]float64{5, 5}
	r.Finish()
	row := r.find(t, "decode", "full", 0, 1)
	near(t, "the median of 800/40, 1600/100 and 400/5", row.OfLimit, 20)
	near(t, "the median of 40, 100 and 5 GB/s", row.ReadGBs, 40)
	near(t, "the goal's", r.Goals[2].Got, 20)
	timings[0].Reads = [2]float64{} // of an older session, whose limit is 20 GB/s
	r.Finish()
	row = r.find(t, "decode", "full", 0, 1)
	near(t, "the median of 800/20, 1600/100 and 400/5", row.OfLimit, 40)
	near(t, "the median of 20, 100 and 5 GB/s", row.ReadGBs, 20)
	if row := r.find(t, "prefill", "full", 0, 1); row.ReadGBs != 0 {
		t.Errorf("a prefill is measured by %v GB/s", row.ReadGBs)
	}
}

func TestGoals(t *testing.T) {
	r := someResults()
	r.Texts = &Texts{Tokens: 256, Ratio: 1.4}
	r.Memory, r.LoadMs = &Memory{Unexplained: 130e6}, 400
	r.Finish()
	want := map[string]struct {
		got     float64
		reached bool
	}{
		"prefill of 8000 tokens, full, against llama.cpp":          {2, false},
		"decode at depth 0 against llama.cpp":                      {2, true},
		"decode at depth 0, of the read bandwidth":                 {40, true},
		"decode at depth 8000, full, against llama.cpp":            {4, true},
		"decode at depth 8000, sinks 5%, against llama.cpp's full": {8, true},
		"the same against our own at depth 0":                      {1, true},
		"first token of 8000, sinks 5%, against llama.cpp's full":  {4, false},
		"decode of 8 answers together against one":                 {4, true},
		"speed kept beside 2 busy processes":                       {0.5, true},
		"embedding of chunks of 256 tokens against onnxruntime":    {1.4, false},
		"load of the model":                                        {400, true},
		"resident memory that is not weights, caches or scratch":   {130, false},
	}
	if len(r.Goals) != len(want) {
		t.Errorf("%d goals, want %d", len(r.Goals), len(want))
	}
	for _, g := range r.Goals {
		w, ok := want[g.Name]
		if !ok {
			t.Errorf("goal %q was not measured", g.Name)
			continue
		}
		near(t, g.Name, g.Got, w.got)
		if g.Reached != w.reached {
			t.Errorf("%s: reached %v", g, g.Reached)
		}
	}
}

// Results that went through JSON and are joined hold the runs of both.
func TestMerge(t *testing.T) {
	one, other := someResults(), someResults()
	other.Measured, other.Limits, other.Date = other.Measured[:1], Limits{ReadGBs: 25, Int8GOPs: 900}, "2026-01-03"
	other.Commands, other.LoadMs = []string{"bin/api bench again"}, 7
	data, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	var read Results
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	all, err := Merge(read, other, Results{Machine: one.Machine, Texts: &Texts{Value: 5}})
	if err != nil {
		t.Fatal(err)
	}
	if n := all.find(t, "decode", "full", 0, 1).Runs; n != 6 {
		t.Errorf("%d runs, want 6", n)
	}
	if all.Limits != (Limits{25, 1000}) || all.Date != "2026-01-03" || len(all.Commands) != 2 || all.LoadMs != 7 || all.Texts.Value != 5 {
		t.Errorf("joined: %v, %s, %q, %v, %v", all.Limits, all.Date, all.Commands, all.LoadMs, all.Texts)
	}
	// The middle ones of 100, 200 and 400 tokens/s of 4 GB each, beside 20 GB/s and beside 25.
	near(t, "the share of the bandwidth over both sessions", all.find(t, "decode", "full", 0, 1).OfLimit, (200.*4/20+200.*4/25)/2)
	near(t, "the share of the one with its own limit", all.find(t, "decode", "sinks", 0, 1).OfLimit, 200.*4/20)
	if len(all.Rows) != len(one.Rows) || len(one.Measured[0].Timings) != 3 {
		t.Error("joining changed what was joined")
	}
	other.Machine.Threads = 1
	if _, err := Merge(one, other); err == nil || !strings.Contains(err.Error(), "do not go together") {
		t.Errorf("two machines: %v", err)
	}
	if _, err := Merge(); err == nil {
		t.Error("nothing was joined")
	}
}

// Two works of ours are compared in the sessions that have both: in another one the machine was not the same.
func TestInTurn(t *testing.T) {
	slower := someResults()
	slower.Measured = []Measured{measured(sinks, Work{Prompt: 8000, Tokens: 101, Batch: 1}, [2]float64{2, 5}, [2]float64{2, 5})}
	for _, sessions := range [][]Results{{someResults(), slower}, {slower, someResults()}} {
		all, err := Merge(sessions...)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "the median of all runs", all.find(t, "decode", "sinks", 8000, 1).Value, 20)
		for _, g := range all.Goals {
			if g.Name == "the same against our own at depth 0" {
				near(t, g.Name, g.Got, 1)
			}
		}
	}
	alone := someResults()
	alone.Measured = []Measured{alone.Measured[1]} // sinks, short
	all, err := Merge(alone, slower)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "of no session with both", inTurn(all.find(t, "decode", "sinks", 8000, 1), all.find(t, "decode", "sinks", 0, 1)), 0.1)
}

// What --json prints has the fields that programs rely on.
func TestJSONFields(t *testing.T) {
	data, err := json.Marshal(someResults())
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Machine, Limits map[string]any
		Runs            []map[string]any
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"work", "tokens", "depth", "batch", "cache", "budget", "value", "unit", "peer_value", "ratio"} {
		if _, ok := got.Runs[0][field]; !ok {
			t.Errorf("a run has no %s", field)
		}
	}
	if got.Limits["read_gb_s"] != 20.0 || got.Limits["int8_gops"] != 1000.0 || got.Machine["threads"] != 2.0 {
		t.Errorf("limits %v, machine %v", got.Limits, got.Machine)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 3, 2, 1}, 2.5}} {
		before := append([]float64(nil), c.values...)
		near(t, "the median", median(c.values), c.want)
		if !reflect.DeepEqual(before, c.values) {
			t.Error("the values were sorted in place")
		}
	}
}

func TestProcFiles(t *testing.T) {
	if got := processorOf("processor\t: 0\nmodel name\t: A processor: fast\n"); got != "A processor: fast" {
		t.Errorf("processor %q", got)
	}
	if n, err := residentOf("VmHWM:\t  9 kB\nVmRSS:\t  12 kB\n"); err != nil || n != 12<<10 {
		t.Errorf("resident %d, %v", n, err)
	}
	for _, bad := range []string{"", "VmRSS:\t x kB\n"} {
		if _, err := residentOf(bad); err == nil {
			t.Errorf("%q has a resident memory", bad)
		}
	}
}
