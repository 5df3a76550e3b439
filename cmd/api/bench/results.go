package bench

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Results are what one or several sessions on one machine found.
type Results struct {
	Date      string      `json:"date"`
	Commands  []string    `json:"commands"`
	Machine   Machine     `json:"machine"`
	Limits    Limits      `json:"limits"`
	Model     Model       `json:"model"`
	Rows      []Row       `json:"runs"` // computed from what follows
	Goals     []Goal      `json:"goals"`
	Measured  []Measured  `json:"measured"`
	LoadMs    float64     `json:"load_ms,omitempty"` // of the model, its file in the page cache
	Memory    *Memory     `json:"memory,omitempty"`
	Texts     *Texts      `json:"embedding,omitempty"`
	Accuracy  *Accuracy   `json:"accuracy,omitempty"`
	Steps     []Step      `json:"steps,omitempty"`
	Documents []Documents `json:"documents,omitempty"`
}

// Machine is where it was measured.
type Machine struct {
	OS        string `json:"os"`
	Processor string `json:"processor"`
	Kernels   string `json:"kernels"` // the instruction set of ours
	Threads   int    `json:"threads"`
}

// Limits are what the machine allows. It is not the same at every hour, and some machines
// read at another rate from one second to the next: a share of the int8 rate is of what was
// measured in the same session, one of the bandwidth of what was read beside the run.
type Limits struct {
	ReadGBs  float64 `json:"read_gb_s"`
	Int8GOPs float64 `json:"int8_gops"`
}

// Best is the higher of two measurements of the same machine: all that else runs can
// only slow it down.
func (l Limits) Best(other Limits) Limits {
	return Limits{max(l.ReadGBs, other.ReadGBs), max(l.Int8GOPs, other.Int8GOPs)}
}

// or is l, or where it was not measured those of the session.
func (l Limits) or(session Limits) Limits {
	if l == (Limits{}) {
		return session
	}
	return l
}

// Model is what the decoder computes with.
type Model struct {
	Name       string `json:"name"`
	File       string `json:"file"`
	StepBytes  int64  `json:"step_bytes"`  // of packed weights that every pass reads
	TokenTerms int64  `json:"token_terms"` // multiplications with layers' weights for one token of a prompt
}

// Row is one work and cache, and the peer's figures for the same work. A ratio
// above 1 means that we are better.
type Row struct {
	Work      string  `json:"work"`   // prefill, ttft, decode, or kept: the share of the speed that is left beside busy processes
	Tokens    int     `json:"tokens"` // of the prompt, or decoded
	Depth     int     `json:"depth"`  // tokens before those
	Batch     int     `json:"batch"`
	Busy      int     `json:"busy,omitempty"`
	Cache     string  `json:"cache"`
	Budget    string  `json:"budget"`
	Value     float64 `json:"value"` // median
	Unit      string  `json:"unit"`
	Runs      int     `json:"samples"`
	Low       float64 `json:"low"` // the least and the highest of the runs
	High      float64 `json:"high"`
	Loud      int     `json:"loud,omitempty"`      // of the runs, with others busy: they count only where there is no other
	OfLimit   float64 `json:"of_limit,omitempty"`  // of the read bandwidth (decode) or of the int8 peak (prefill): the median of the runs' shares
	ReadGBs   float64 `json:"read_gb_s,omitempty"` // that decode's is of, the median
	PeerValue float64 `json:"peer_value,omitempty"`
	PeerName  string  `json:"peer,omitempty"` // the one that is best at this work
	Ratio     float64 `json:"ratio,omitempty"`
	SameValue float64 `json:"same_file_value,omitempty"` // the peer on the file that we read
	SameRatio float64 `json:"same_file_ratio,omitempty"`

	measured Measured // that it is computed from
}

// Merge joins sessions of one machine and model: runs of the same work are added
// up, of anything else the
// later one's figures stay, and the shortest load.
func Merge(sessions ...Results) (Results, error) {
	if len(sessions) == 0 {
		return Results{}, errors.New("no results")
	}
	all := sessions[0].stamped(0)
	for i, s := range sessions[1:] {
		s = s.stamped(1 + i)
		if all.Model == (Model{}) {
			all.Model = s.Model // the sessions of the embedder and of documents have none
		}
		if s.Machine != all.Machine || s.Model != all.Model && s.Model != (Model{}) {
			return Results{}, fmt.Errorf("results of %v with %s and of %v with %s do not go together", all.Machine, all.Model.Name, s.Machine, s.Model.Name)
		}
		all.Date = max(all.Date, s.Date)
		all.Commands = slices.Compact(append(slices.Clip(all.Commands), s.Commands...))
		all.Limits = all.Limits.Best(s.Limits)
		all.Measured = mergeMeasured(all.Measured, s.Measured)
		all.Accuracy = cmp.Or(s.Accuracy, all.Accuracy)
		if s.LoadMs > 0 {
			all.LoadMs = min(s.LoadMs, cmp.Or(all.LoadMs, s.LoadMs)) // the others had to wait, or to read the file
		}
		all.Memory, all.Texts = cmp.Or(s.Memory, all.Memory), cmp.Or(s.Texts, all.Texts)
		if s.Steps != nil {
			all.Steps = s.Steps
		}
		all.Documents = append(slices.Clip(all.Documents), s.Documents...)
	}
	all.Finish()
	return all, nil
}

// stamped writes the session's limits and number to all that was timed in it.
func (r Results) stamped(session int) Results {
	r.Measured, r.Steps = slices.Clone(r.Measured), slices.Clone(r.Steps)
	for i := range r.Measured {
		m := &r.Measured[i]
		m.Timings = slices.Clone(m.Timings)
		for j := range m.Timings {
			m.Timings[j].Limits, m.Timings[j].session = m.Timings[j].Limits.or(r.Limits), session
		}
	}
	for i := range r.Steps {
		r.Steps[i].Limits = r.Steps[i].Limits.or(r.Limits)
	}
	return r
}

func mergeMeasured(all, more []Measured) []Measured {
	all = slices.Clone(all)
	for _, m := range more {
		i := slices.IndexFunc(all, func(a Measured) bool { return a.Contender == m.Contender && a.Work == m.Work })
		if i < 0 {
			all = append(all, m)
			continue
		}
		all[i].Timings = append(slices.Clip(all[i].Timings), m.Timings...)
	}
	return all
}

// Finish computes the rows and the goals.
func (r *Results) Finish() {
	r.Rows = nil
	for _, m := range r.Measured {
		if !m.Contender.Peer {
			r.Rows = append(r.Rows, r.rowsOf(m)...)
		}
	}
	r.Goals = goals(r)
}

// rowsOf are what a work of ours tells: how fast the prompt was read, if it was one
// prompt of some length, and how fast the answers came.
func (r *Results) rowsOf(m Measured) []Row {
	w, row := m.Work, Row{measured: m, Batch: m.Work.Batch, Busy: m.Work.Busy, Cache: m.Contender.Cache, Budget: m.Contender.Budget}
	var rows []Row
	if w.Busy > 0 {
		row.Work, row.Tokens, row.Depth, row.Unit = "kept", w.Tokens, depth(w), "of its speed"
		if row = r.kept(row, m); row.Value > 0 {
			rows = append(rows, row)
		}
		return rows
	}
	if w.Batch == 1 && w.Prompt > 1 {
		row.Tokens = w.Prompt
		row.Work, row.Unit = "prefill", "tokens/s"
		prefill := r.fill(row, m, w.Prefill)
		prefill.OfLimit = ofLimit(m.Timings, func(t Timing) (rate, limit float64) {
			return 2 * float64(r.Model.TokenTerms) * w.Prefill(t), 1e9 * t.Limits.or(r.Limits).Int8GOPs
		})
		row.Work, row.Unit = "ttft", "ms"
		rows = append(rows, prefill, r.fill(row, m, func(t Timing) float64 { return 1e3 * t.First.Seconds() }))
	}
	if w.Tokens > 1 {
		row.Tokens, row.Depth = w.Tokens, depth(w)
		row.Work, row.Unit = "decode", "tokens/s"
		decode := r.fill(row, m, w.Decode)
		decode.OfLimit = ofLimit(m.Timings, func(t Timing) (rate, limit float64) {
			return float64(r.Model.StepBytes+t.Held) * w.Decode(t) / float64(w.Batch), 1e9 * t.read(r.Limits)
		})
		decode.ReadGBs = median(each(quietest(m.Timings), func(t Timing) float64 { return t.read(r.Limits) }))
		rows = append(rows, decode)
	}
	return rows
}

// ofLimit is the median share of what the machine did at most, 0 where that was not
// measured.
func ofLimit(timings []Timing, of func(Timing) (rate, limit float64)) float64 {
	return median(each(quietest(timings), func(t Timing) float64 {
		rate, limit := of(t)
		if !(limit > 0) {
			return 0
		}
		return rate / limit
	}))
}

// depth is the tokens before the decoded ones. A prompt of one token stands for none.
func depth(w Work) int {
	if w.Prompt == 1 {
		return 0
	}
	return w.Prompt
}

// fill computes a row's figures and sets the best peer's beside them.
func (r *Results) fill(row Row, m Measured, value func(Timing) float64) Row {
	quiet := quietest(m.Timings)
	own := each(quiet, value)
	for _, t := range quiet {
		if t.Others > loudest {
			row.Loud++
		}
	}
	row.Value, row.Runs, row.Low, row.High = median(own), len(own), slices.Min(own), slices.Max(own)
	for _, p := range r.peers(m.Work) {
		row.meet(p.Contender, median(each(quietest(p.Timings), value)), m.Contender.File)
	}
	return row
}

// quietest are the runs that no other program disturbed, or all if there is none.
func quietest(timings []Timing) []Timing {
	var quiet []Timing
	for _, t := range timings {
		if t.Others <= loudest {
			quiet = append(quiet, t)
		}
	}
	if len(quiet) == 0 {
		return timings
	}
	return quiet
}

// kept divides the speed beside busy processes by that without.
func (r *Results) kept(row Row, m Measured) Row {
	share := func(m Measured) float64 {
		idle := m.Work
		idle.Busy = 0
		for _, other := range r.Measured {
			if other.Contender == m.Contender && other.Work == idle {
				return median(each(m.Timings, m.Work.Decode)) / median(each(quietest(other.Timings), idle.Decode))
			}
		}
		return 0
	}
	row.Value, row.Runs = share(m), len(m.Timings)
	row.Low, row.High = row.Value, row.Value
	for _, p := range r.peers(m.Work) {
		if kept := share(p); kept > 0 && row.Value > 0 {
			row.meet(p.Contender, kept, m.Contender.File)
		}
	}
	return row
}

// meet sets a peer's value beside the row's, if it is the best so far: of all, and
// of those that read the same file.
func (row *Row) meet(peer Contender, value float64, file string) {
	better := func(x, y float64) bool {
		if row.Work == "ttft" {
			return x < y
		}
		return x > y
	}
	ratio := func(x float64) float64 {
		if row.Work == "ttft" {
			return x / row.Value
		}
		return row.Value / x
	}
	if row.PeerName == "" || better(value, row.PeerValue) {
		row.PeerName, row.PeerValue, row.Ratio = peer.Name, value, ratio(value)
	}
	if peer.File == file && (row.SameValue == 0 || better(value, row.SameValue)) {
		row.SameValue, row.SameRatio = value, ratio(value)
	}
}

func (r *Results) peers(w Work) []Measured {
	var peers []Measured
	for _, m := range r.Measured {
		if m.Contender.Peer && m.Work == w {
			peers = append(peers, m)
		}
	}
	return peers
}

func each(timings []Timing, value func(Timing) float64) []float64 {
	values := make([]float64, len(timings))
	for i, t := range timings {
		values[i] = value(t)
	}
	return values
}

// median of values, at least one: the mean of the middle two where there are two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// Now is today, as results are dated.
func Now() string { return time.Now().UTC().Format(time.DateOnly) }
