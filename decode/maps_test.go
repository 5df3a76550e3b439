package decode

import (
	"strings"
	"testing"

	"lessrag/decode/cache"
	"lessrag/lesskernels"
)

// A cache that asks for states learns why it has none.
func TestStateNote(t *testing.T) {
	maps := &lesskernels.Header{Gates: map[string]lesskernels.GateReport{cache.TOVA: {Validated: 4096}, lesskernels.Others: {Validated: 2048}}}
	for _, c := range []struct {
		spec   cache.Spec
		ranks  []int
		tokens int
		want   string
	}{
		{cache.Spec{Policy: cache.TOVA, State: cache.Less}, []int{0, 8}, 4096, ""},
		{cache.Spec{Policy: cache.TOVA, State: cache.Less}, []int{0, 8}, 4097, "beyond token 4096"},
		{cache.Spec{Policy: cache.H2O, State: cache.Less}, []int{0, 8}, 2049, "beyond token 2048"},
		{cache.Spec{Policy: cache.Sinks, State: cache.Less}, []int{0, 0}, 5, "no state is used with sinks"},
		{cache.Spec{Policy: cache.Sinks, State: cache.Moment}, nil, 9000, ""},
		{cache.Spec{Policy: cache.Sinks}, []int{0, 0}, 9000, ""},
	} {
		got := stateNote(maps, cache.Plan{Spec: c.spec, Shape: cache.Shape{Ranks: c.ranks}}, c.tokens)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s, %d tokens: %q, want %q", c.spec, c.tokens, got, c.want)
		}
	}
	if got := stateNote(nil, cache.Plan{Spec: cache.Spec{State: cache.Less}}, 9000); got != "" {
		t.Errorf("without maps: %q", got)
	}
}
