package decode

import (
	"fmt"
	"slices"

	"lessrag/decode/cache"
	"lessrag/decode/gguf"
	"lessrag/decode/model"
	"lessrag/lesskernels"
	"lessrag/lesskernels/maps"
)

// NoMaps, as Options.Maps, loads no feature maps.
const NoMaps = "none"

// findMaps reads the feature maps that Options.Maps names, or those that ship for
// the model of the file; nil where there are none. The error wraps
// lesskernels.ErrMaps or lesskernels.ErrOtherModel where they cannot be used.
func findMaps(name string, f *gguf.File, c model.Config) (*lesskernels.Maps, error) {
	if name == NoMaps {
		return nil, nil
	}
	hash, err := f.Hash()
	if err != nil {
		return nil, fmt.Errorf("hash the model: %w", err)
	}
	find := func() (*lesskernels.Maps, error) { return lesskernels.ReadMaps(name) }
	if name == "" {
		find = func() (*lesskernels.Maps, error) { return maps.For(hash) }
	}
	m, err := find()
	if m == nil || err != nil {
		return nil, err
	}
	if err := m.Check(hash, c.Layers, c.Heads, c.KVHeads, c.HeadDim); err != nil {
		return nil, fmt.Errorf("feature maps: %w", err)
	}
	return m, nil
}

// stateNote tells that a sequence of that many tokens went without states that its
// cache asks for, and why; "" where it did not.
func stateNote(maps *lesskernels.Header, plan cache.Plan, tokens int) string {
	if maps == nil || plan.Spec.State != cache.Less {
		return ""
	}
	policy := plan.Spec.Policy
	if slices.Max(plan.Shape.Ranks) == 0 {
		return fmt.Sprintf("no state is used with %s: on texts that the maps were not trained on, none was worth its bytes", policy)
	}
	if validated := maps.ReportOf(policy).Validated; tokens > validated {
		return fmt.Sprintf("no state is asked beyond token %d, as far as the maps were validated for %s", validated, policy)
	}
	return ""
}
