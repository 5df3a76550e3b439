package teach

import (
	"fmt"

	"lessrag/lesskernels"
)

// describe is one line about a measurement.
func describe(m lesskernels.GateMeasure) string {
	nats := fmt.Sprintf("%.4f nats a token with all tokens, %.4f by the policy at equal bytes, %.4f with the state", m.Dense, m.Plain, m.State)
	if m.Kind == needles {
		return fmt.Sprintf("%d needles: %s", m.Sequences, nats)
	}
	return fmt.Sprintf("%s:%d at %d tokens: %s: %+.1f%% of what was lost won back", m.Policy, m.Budget, m.Tokens, nats, 100*Recovered(m))
}

// Recovered is the share of the loss by a policy at equal bytes that the state
// wins back.
func Recovered(m lesskernels.GateMeasure) float64 {
	return (m.Plain - m.State) / (m.Plain - m.Dense)
}
