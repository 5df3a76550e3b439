package teach

import (
	"fmt"

	"lessrag/lesskernels"
)

// describe is one line about a measurement.
func describe(m lesskernels.GateMeasure) string {
	what := fmt.Sprintf("%d needles", m.Sequences)
	if m.Kind == text {
		what = fmt.Sprintf("%s:%d at %d tokens", m.Policy, m.Budget, m.Tokens)
	}
	return fmt.Sprintf("%s: %.4f nats a token with all tokens, %.4f by the policy at equal bytes, %.4f with the state: %+.1f%% of what was lost won back",
		what, m.Dense, m.Plain, m.State, 100*Recovered(m))
}

// Recovered is the share of the loss by a policy at equal bytes that the state
// wins back.
func Recovered(m lesskernels.GateMeasure) float64 {
	return (m.Plain - m.State) / (m.Plain - m.Dense)
}
