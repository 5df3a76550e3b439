package cache

import (
	"fmt"
	"slices"
	"sort"
)

// DefaultPercent of the model's context is what a bounded cache keeps when its
// Budget is zero.
const DefaultPercent = 10

// Shape is what a Plan needs to know of a model, and of how its sequences run.
type Shape struct {
	Layers   int
	KVHeads  int // per layer
	HeadDim  int
	Context  int // tokens that the model was trained to attend
	Interval int // tokens that a bounded sequence may exceed its budget by, between evictions; 0 means 1, the papers' token by token

	Group int   // query heads that share a KV head; 0 means 1
	Parts int   // bf16 rows that a key or a value is stored in, of HeadDim/Parts numbers each; 0 means 1
	Ranks []int // [layers·kvHeads] rank of each KV head's LESS state, 0 where the gate has switched it off; nil: no feature maps are loaded
}

// valueDim is how many numbers a key or a value has, however they are stored.
func (s Shape) valueDim() int { return s.HeadDim / max(1, s.Parts) }

// slotBytes is one token of one KV head: key and value in bf16, and its position.
func (s Shape) slotBytes() int64 {
	return 2*2*int64(s.HeadDim) + 4
}

// TokenBytes is one token over all layers and KV heads.
func (s Shape) TokenBytes() int64 {
	return int64(s.Layers) * int64(s.KVHeads) * s.slotBytes()
}

// Plan is the memory of one sequence: a function of the Spec, the Budget and the
// model alone, known before the sequence starts, and never exceeded by a byte.
type Plan struct {
	Spec     Spec
	Budget   Budget
	Shape    Shape
	Staging  bool  // of a sequence that prompts are staged in: see NewStaging
	Keep     int   // tokens of a KV head that survive an eviction, on average over the heads; the current token comes on top
	Interval int   // tokens beyond Keep that a KV head may hold between evictions; 0 where nothing is evicted
	Keeps    []int // [layers·kvHeads] tokens of each KV head that survive an eviction
	Slots    []int // [layers·kvHeads] tokens that each KV head has room for
	Groups   []int // [layers·kvHeads] groups of GroupTokens among them that are packed
	Bytes    int64 // for one sequence, exactly

	ledgers bool // it is of a ledger
}

// Width is how many numbers of attention a slot remembers.
func (p Plan) Width() int {
	seen := NewPolicy(p.Spec).Observes()
	switch {
	case seen.Rows == NoRows:
		return 0
	case p.Staging && seen.Reduce == Max:
		return max(1, p.Shape.Group)
	}
	return 1
}

// sinkTokens is how many keys of a KV head are kept a second time.
func (p Plan) sinkTokens() int {
	if p.Spec.renumbers() {
		return SinkTokens
	}
	return 0
}

// noteBytes is what a slot of one KV head takes beside key and value: its position and
// what is observed of it.
func (p Plan) noteBytes() int64 { return 4 + 4*int64(p.Width()) }

// fixedBytes is what KV head i takes whatever its slots: its state, the exact copy of
// renumbered sinks, and what pruning channels needs.
func (p Plan) fixedBytes(i int) int64 {
	return 4*int64(p.stateFloats(i)+p.queryFloats()) + 2*int64(p.sinkTokens()*p.Shape.HeadDim+p.maskWords())
}

// divide gives each KV head its slots and adds up the bytes.
func (p *Plan) divide(keeps []int) {
	p.Keeps, p.Slots, p.Groups, p.Bytes = keeps, make([]int, len(keeps)), make([]int, len(keeps)), 0
	for i, keep := range keeps {
		p.Slots[i], p.Groups[i] = p.slots(min(keep+p.Interval, p.Shape.Context))
		p.Bytes += p.bytes(i, p.Slots[i], p.Groups[i])
	}
}

// Divide gives KV heads budgets of their own, [layers·kvHeads] tokens, as a Choice
// may ask. It refuses what takes more bytes than p; where packed groups do not divide
// as tokens do, heads give up a group each, those first that have most to spare.
func (p Plan) Divide(keeps []int) (Plan, error) {
	divided := p
	divided.divide(slices.Clone(keeps))
	for divided.Bytes > p.Bytes && p.packs() && len(keeps) == len(p.Slots) && sum(keeps) <= sum(p.Keeps) {
		divided.shrink()
	}
	if len(keeps) != len(p.Slots) || slices.Min(keeps) < 0 || divided.Bytes > p.Bytes {
		return Plan{}, &PlanError{Spec: p.Spec, Budget: p.Budget,
			Reason: fmt.Sprintf("%d KV heads with budgets of their own would take %d of %d bytes", len(keeps), divided.Bytes, p.Bytes)}
	}
	return divided, nil
}

// shrink takes a packed group from the KV head that would have the most unused slots
// in its last one.
func (p *Plan) shrink() {
	most, at := 0, -1
	for i, slots := range p.Slots {
		if unused := slots - p.Keeps[i] - p.Interval + GroupTokens; p.Groups[i] > 0 && unused > most {
			most, at = unused, i
		}
	}
	if at < 0 {
		panic("cache: no group is left to give up")
	}
	p.Keeps[at] = min(p.Keeps[at], p.Slots[at]-GroupTokens-p.Interval)
	p.divide(p.Keeps)
}

func sum(list []int) int {
	total := 0
	for _, n := range list {
		total += n
	}
	return total
}

// refuse tells what is wrong with the Shape, "" if nothing.
func (p Plan) refuse() string {
	s := p.Shape
	heads := s.Layers * s.KVHeads
	switch {
	case s.Layers < 1 || s.KVHeads < 1 || s.HeadDim < 1 || s.Context < 1 || s.Interval < 0 || s.Group < 0 || s.Parts < 0:
		return fmt.Sprintf("the model's shape %+v has an empty or negative dimension", s)
	case p.Spec.conflict() != "":
		return p.Spec.conflict()
	case p.Spec.State == Less && s.Ranks == nil:
		return "no feature maps are loaded for this model: load or train some, or choose moment, which needs none"
	case p.Spec.State == Less && (len(s.Ranks) != heads || slices.Min(s.Ranks) < 0):
		return fmt.Sprintf("the feature maps give %d ranks for %d KV heads", len(s.Ranks), heads)
	}
	return ""
}

func repeat(value, n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = value
	}
	return list
}

// PlanError tells why a budget does not fit a cache or a model.
type PlanError struct {
	Spec   Spec
	Budget Budget
	Reason string
}

func (e *PlanError) Error() string {
	return fmt.Sprintf("cache %s with budget %q: %s", e.Spec, e.Budget, e.Reason)
}

// NewPlan computes what one sequence holds. A budget in tokens or percent names
// what is kept: interval, states and statistics come on top and are counted in
// Bytes. A budget in bytes holds everything. No KV head gets more slots than the model's context.
// A zero Budget means the whole context for full and DefaultPercent otherwise.
// The error is an *UnavailableError or a *PlanError.
func NewPlan(spec Spec, budget Budget, shape Shape) (Plan, error) {
	fail := func(format string, args ...any) (Plan, error) {
		return Plan{}, &PlanError{Spec: spec, Budget: budget, Reason: fmt.Sprintf(format, args...)}
	}
	if err := spec.Available(); err != nil {
		return Plan{}, err
	}
	p := Plan{Spec: spec, Budget: budget, Shape: shape}
	if reason := p.refuse(); reason != "" {
		return fail("%s", reason)
	}
	if spec.Bounded() {
		p.Interval = max(1, shape.Interval)
	}

	var keep int
	switch {
	case budget.Percent != 0:
		if !(budget.Percent > 0 && budget.Percent <= 100) {
			return fail("a percentage is above 0 and at most 100")
		}
		keep = int(float64(shape.Context) * budget.Percent / 100)
	case budget.Tokens != 0:
		keep = budget.Tokens
	case budget.Bytes != 0:
		keep = p.slotsIn(budget.Bytes) - p.Interval
	case spec.Bounded():
		keep = shape.Context * DefaultPercent / 100
	default:
		keep = shape.Context
	}
	if least := NewPolicy(spec).Minimum(); keep < least {
		return fail("that is room for %d tokens of %d bytes, and this cache needs at least %d",
			max(keep, 0), p.tokenBytes(), least)
	}
	p.Keep = min(keep, shape.Context)
	if least := NewPolicy(spec).Minimum(); spec.Unlimited() { // no distance grows beyond the context
		p.Keep = max(least, min(p.Keep, shape.Context-p.Interval))
	}
	p.divide(repeat(p.Keep, shape.Layers*shape.KVHeads))
	return p, nil
}

// tokenBytes is one recent token over all layers and KV heads, with what is observed of it.
func (p Plan) tokenBytes() int64 {
	return int64(p.Shape.Layers) * int64(p.Shape.KVHeads) * (4*int64(p.Shape.HeadDim) + p.noteBytes())
}

// slotsIn is how many slots of every KV head a number of bytes holds beside what
// does not depend on slots: so many that one more would not fit, or one more packed
// group. It is at most the context and some.
func (p Plan) slotsIn(bytes int64) int {
	fits := func(slots int) bool {
		left := bytes
		for i := range p.Shape.Layers * p.Shape.KVHeads {
			n, groups := p.slots(slots)
			left -= p.bytes(i, n, groups)
		}
		return left >= 0
	}
	return sort.Search(p.Shape.Context+p.Interval+GroupTokens, func(slots int) bool { return !fits(slots + 1) })
}

// FullBytes is what a full cache of that many tokens would hold.
func (p Plan) FullBytes(tokens int) int64 {
	return int64(tokens) * p.Shape.TokenBytes()
}
