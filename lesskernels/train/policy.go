package train

import (
	"fmt"
	"strconv"
	"strings"
)

// Policy is an eviction policy of one token at a time, and its budget.
type Policy struct {
	Name   string // "h2o", "sinks" or "tova"
	Budget int    // tokens kept beside the current one
}

// Policies whose evictions can be followed here.
const (
	H2O   = "h2o"
	Sinks = "sinks"
	TOVA  = "tova"
)

// sinkTokens is how many first tokens sinks keeps (arXiv 2309.17453, table 2).
const sinkTokens = 4

// ParsePolicy reads "h2o:128".
func ParsePolicy(text string) (Policy, error) {
	name, budget, _ := strings.Cut(text, ":")
	n, err := strconv.Atoi(budget)
	if err != nil || n <= sinkTokens || n > 1<<20 {
		return Policy{}, fmt.Errorf("policy %q: give a name and the tokens that it keeps, more than %d, such as h2o:128", text, sinkTokens)
	}
	switch name {
	case H2O, Sinks, TOVA:
		return Policy{name, n}, nil
	}
	return Policy{}, fmt.Errorf("policy %q: %s, %s and %s can be trained for", text, H2O, Sinks, TOVA)
}

func (p Policy) String() string { return fmt.Sprintf("%s:%d", p.Name, p.Budget) }

// recent is how many of the newest tokens are never evicted; the rest of the
// budget is the heavy hitters' (arXiv 2306.14048) or the sinks'.
func (p Policy) recent() int {
	switch p.Name {
	case H2O:
		return p.Budget / 2
	case Sinks:
		return p.Budget - sinkTokens
	}
	return 0
}
