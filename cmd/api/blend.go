package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/decode/passages"
)

// blendFlags say whether passages that were read before are read again.
type blendFlags struct {
	Blend        string  `help:"Answer from passages that were read before without reading them again (CacheBlend): ${enum}. auto does so where the reader's answers were measured to stand it, see api eval blend." enum:"auto,on,off" default:"auto"`
	BlendShare   float64 `help:"Share of such passages that is computed anew; 1 computes all and saves nothing. 0: the share that was measured, or 0.15." default:"0" placeholder:"R"`
	BlendMemory  float64 `help:"Keep of a passage only its heavy hitters and the state of the rest, in this share of its bytes, and compute nothing of it anew: for caches with +less or +moment on sinks, h2o, tova or corm. 0: all of it." default:"0" placeholder:"R"`
	Passages     string  `help:"Memory for what was computed of passages; the least recently used go first." default:"256MiB" placeholder:"BYTES"`
	PassagesDisk string  `help:"Disk for the same, below --data; 0 for none. Who can read these files can tell what the passages say." default:"2GiB" placeholder:"BYTES"`
}

// store opens the store of passages, nil where nothing is blended.
func (f blendFlags) store(g *globals, spec cache.Spec) (*passages.Store, error) {
	switch {
	case !(f.BlendShare >= 0 && f.BlendShare <= 1):
		return nil, usageError{fmt.Errorf("--blend-share %v: outside 0…1", f.BlendShare)}
	case !(f.BlendMemory >= 0 && f.BlendMemory < 1):
		return nil, usageError{fmt.Errorf("--blend-memory %v: outside 0…1", f.BlendMemory)}
	case f.BlendMemory > 0 && f.Blend != "on":
		return nil, usageError{errors.New("--blend-memory: what passages that are only remembered do to answers has no gate; --blend on asks for it")}
	case f.BlendMemory > 0 && !spec.Remembers():
		return nil, usageError{fmt.Errorf("--blend-memory: cache %s takes no passage memories; it needs a state, +less or +moment, with one of sinks, h2o, tova and corm", spec)}
	}
	if f.Blend == "off" {
		return nil, nil
	}
	if f.Blend == "on" && spec.Policy == cache.Cascade {
		return nil, usageError{errors.New("--blend on: the cache cascade reads a prompt in chunks of its own and cannot take passages that were read before; choose another --cache, or --blend auto")}
	}
	memory, err := parseBytes("--passages", f.Passages)
	if err != nil {
		return nil, err
	}
	o := passages.Options{Memory: memory, Dir: filepath.Join(g.Data, "passages")}
	if f.PassagesDisk != "0" {
		if o.Disk, err = parseBytes("--passages-disk", f.PassagesDisk); err != nil {
			return nil, err
		}
	}
	return passages.Open(o)
}

// share is how much of the passages is computed anew; 0 where the engine's reader is
// not to be blended for.
func (f blendFlags) share(info decode.Info) (float64, error) {
	if f.Blend == "off" {
		return 0, nil
	}
	gate, found, err := passages.FindGate(info.Path, info.Hash)
	switch {
	case err != nil:
		return 0, err
	case !found && f.Blend == "auto":
		slog.Info("every passage is read in every prompt: whether this reader stands blending was not measured; `api eval blend --write` does")
		return 0, nil
	case found:
		slog.Info(gate.String())
		if f.Blend == "auto" && !gate.Open() {
			return 0, nil
		}
	}
	return cmp.Or(f.BlendShare, gate.Share, decode.DefaultShare), nil
}
