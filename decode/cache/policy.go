package cache

import (
	"fmt"
	"math"
)

// Policy says which tokens stay. It is pure: the same statistics give the same
// answer, and it knows neither who stores nor who absorbs. It is a Scorer or a
// Decider.
type Policy interface {
	// Grain tells for how many KV heads one answer holds.
	Grain() Grain
	// Minimum is the smallest budget, in tokens, that the policy works with.
	Minimum() int
	// Observes tells whose attention Statistics must hold.
	Observes() Observation
}

// Scorer is a Policy that scores tokens; those with the highest scores are kept, as
// many as the budget has room for.
type Scorer interface {
	Policy
	// Score fills scores[i] for the token Positions[i]; +Inf protects it.
	Score(scores []float32, s Statistics)
}

// Decider is a Policy that names the tokens that stay.
type Decider interface {
	Policy
	// Decide appends to kept the indices of what stays, rising: at most s.Keep.
	Decide(kept []int32, s Statistics) []int32
	// Eager tells that it decides every Plan.Interval tokens, and not only when
	// tokens do not fit any more.
	Eager() bool
}

// Merger is a Decider that merges tokens into others in place of dropping them.
type Merger interface {
	Decider
	// Merges tells whether what does not stay by this decision becomes a part of the
	// nearest token that does, and whether in its key too.
	Merges(s Statistics) (values, keys bool)
}

// Grain tells how widely a decision of a Policy holds.
type Grain int

// One set of tokens for all KV heads of a layer, or a set for each.
const (
	PerLayer Grain = iota
	PerHead
)

// Observation is what a Policy wants to know of the attention that tokens get:
// the softmax weights over what a sequence holds exactly, the low-rank state not
// among it.
type Observation struct {
	Rows   Rows
	Reduce Reduce
}

// Rows names the queries whose attention is observed.
type Rows int

// What is observed.
const (
	NoRows       Rows = iota // positions are enough
	EveryRow                 // all queries since the token came, added up (H2O)
	NewestRow                // the last query of the last block alone (TOVA)
	QuestionRows             // the queries that a Work marks as the question's, seen by a Chooser
)

// Reduce is how the rows of one query head are joined, and then the query heads of
// a KV head.
type Reduce int

// The reductions.
const (
	Sum     Reduce = iota // rows are added, and query heads
	Max                   // the largest of the rows, for each query head
	Decayed               // rows are added, later ones weighing more (Rise); of query heads the largest, block by block
	Last                  // the last step t = position + 1 whose query gave at least 1/t, of any query head; 0: none
)

// decay is by how much a row of attention weighs less with every step (Cascading KV
// cache, arXiv 2406.17808).
const decay = 0.9999999

// Rise is the logarithm of what the row of a position weighs under Decayed. Rows
// that come rise where the paper's average sinks: what has been added up stays as it
// is, and only sums of one time are compared.
func Rise(position int) float64 { return -float64(position) * math.Log(decay) }

// Statistics is what a Policy knows of the tokens that it scores: those that a
// KV head holds, in the order of their positions.
type Statistics struct {
	Layer, Head int       // Head is 0 where one call decides for the layer
	Position    int       // of the next token: how many there were so far
	Decided     int       // Position when this KV head was last decided on; 0: never
	Coming      int       // tokens of the block for which room is made, or which is among Positions
	Positions   []int32   // [tokens] original positions, rising
	Attention   []float32 // [tokens] attention observed, added up over the query heads that the decision holds for; after a Choice, its scores; nil where nothing is observed
	Keep        int       // how many tokens will stay
	Chosen      int       // a Choice decided on the tokens before this position; later ones have no score
}

// NewPolicy is the policy of a Spec that is Available; any other is a broken
// invariant.
func NewPolicy(s Spec) Policy {
	switch s.Policy {
	case Full, "":
		return full{}
	case Sinks:
		return sinks{SinkTokens}
	case Streaming:
		return streaming{sinks{SinkTokens}}
	case H2O:
		return h2o{}
	case TOVA:
		return tova{}
	case SnapKV:
		return snapKV{pool: snapPool, window: snapWindow}
	case Vote:
		return vote{}
	case BUZZ:
		return buzz{stride: buzzStride}
	case CORM:
		return corm{window: cormWindow}
	case Cascade:
		return cascade{rings: cascadeRings}
	case Elastic:
		return elastic{keys: true}
	case ElasticValues:
		return elastic{}
	}
	panic(fmt.Sprintf("cache: no policy for %s", s))
}
