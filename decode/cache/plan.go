package cache

import (
	"fmt"
	"math"
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
}

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
	Keep     int   // tokens of a KV head that survive an eviction; the current token comes on top
	Interval int   // tokens beyond Keep that a KV head may hold between evictions; 0 where nothing is evicted
	Slots    []int // [layers·kvHeads] tokens that each KV head has room for
	Bytes    int64 // for one sequence, exactly
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
// what is kept: the interval comes on top and is counted in Bytes. A budget in
// bytes holds everything. No KV head gets more slots than the model's context.
// A zero Budget means the whole context for full and DefaultPercent otherwise.
// The error is an *UnavailableError or a *PlanError.
func NewPlan(spec Spec, budget Budget, shape Shape) (Plan, error) {
	fail := func(format string, args ...any) (Plan, error) {
		return Plan{}, &PlanError{Spec: spec, Budget: budget, Reason: fmt.Sprintf(format, args...)}
	}
	if err := spec.Available(); err != nil {
		return Plan{}, err
	}
	if shape.Layers < 1 || shape.KVHeads < 1 || shape.HeadDim < 1 || shape.Context < 1 || shape.Interval < 0 {
		return fail("the model's shape %+v has an empty or negative dimension", shape)
	}
	interval := 0
	if spec.Bounded() {
		interval = max(1, shape.Interval)
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
		keep = int(min(budget.Bytes/shape.TokenBytes(), math.MaxInt32)) - interval
	case spec.Bounded():
		keep = shape.Context * DefaultPercent / 100
	default:
		keep = shape.Context
	}
	least := NewPolicy(spec).Minimum()
	if keep < least {
		return fail("that is room for %d tokens of %d bytes, and this cache needs at least %d",
			max(keep, 0), shape.TokenBytes(), least)
	}

	keep = min(keep, shape.Context)
	slots := min(keep+interval, shape.Context)
	p := Plan{Spec: spec, Budget: budget, Shape: shape, Keep: keep, Interval: interval,
		Slots: make([]int, shape.Layers*shape.KVHeads)}
	for i := range p.Slots {
		p.Slots[i] = slots
		p.Bytes += int64(slots) * shape.slotBytes()
	}
	return p, nil
}

// FullBytes is what a full cache of that many tokens would hold.
func (p Plan) FullBytes(tokens int) int64 {
	return int64(tokens) * p.Shape.TokenBytes()
}
