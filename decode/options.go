package decode

import (
	"cmp"
	"fmt"
	"time"

	"lessrag/decode/model"
	"lessrag/decode/passages"
	"lessrag/lesskernels/cuda/device"
)

// Options of an Engine; zero values are sensible.
type Options struct {
	Devices      []device.Device // cards to decode on, each with all of the model; none: the CPU. Cards hold some of the caches, and compute in bf16
	Threads      int             // 0: GOMAXPROCS
	CacheMemory  int64           // bytes for all sequences' caches, on each device; 0: DefaultCacheMemory
	Math         string          // "int8" (default) or "float32", the reference; on a card "bf16" (default)
	MaxQueue     int             // waiting requests; 0: 64
	MaxSequences int             // running at once on each device, if their bytes fit; 0: 32
	Block        int             // prompt tokens in one forward pass beside running answers; 0: 128
	Interval     int             // tokens that a bounded cache may exceed its budget by, between evictions; 0: 16

	// StagingTokens is how many tokens of a prompt are read at once for a cache that
	// asks a question; a longer prompt is read in chunks. 0: 4,096 or the model's
	// context if that is smaller; at least 8 blocks.
	StagingTokens int

	// HeadWeights tell the cache vote how much each KV head finds answers,
	// [layers·kvHeads] none below 0: see Calibrate. nil: those of the maps; without any, all vote and
	// keep the same.
	HeadWeights []float32

	Passages *passages.Store // what was computed of passages, for Request.Blend; nil: none is kept. On a card, longer prompts than StagingTokens are not put together from them

	Maps    string // a .less file with feature maps and head weights; "": those built in for the model, if any; NoMaps: none
	Profile bool   // time the stages of every pass: see Engine.Profile

	retryLost time.Duration // between tries to get a lost device back; 0: retryLost
}

// cardMath is the arithmetic of cards.
const cardMath = "bf16"

// DefaultCacheMemory holds five full caches of 8,192 tokens of the default reader.
const DefaultCacheMemory = 1 << 30

// withDefaults fills zero values and refuses what makes no sense.
func (o Options) withDefaults() (Options, error) {
	usual := string(model.Int8)
	if o.onCards() {
		usual = cardMath
	}
	o.Math = cmp.Or(o.Math, usual)
	if o.onCards() && o.Math != usual {
		return o, fmt.Errorf("math %q: a card computes in %s", o.Math, usual)
	}
	if o.CacheMemory < 0 {
		return o, fmt.Errorf("cache memory of %d bytes is negative", o.CacheMemory)
	}
	o.retryLost = cmp.Or(o.retryLost, retryLost)
	if o.CacheMemory == 0 {
		o.CacheMemory = DefaultCacheMemory
	}
	for _, field := range []struct {
		name        string
		value       *int
		usual, most int
	}{
		{"threads", &o.Threads, 0, 1024},
		{"queue", &o.MaxQueue, 64, 1 << 20},
		{"sequences", &o.MaxSequences, 32, 1024},
		{"block", &o.Block, 128, 4096},
		{"interval", &o.Interval, 16, 4096},
		{"staging", &o.StagingTokens, max(4096, stagingBlocks*o.Block), 1 << 24},
	} {
		if *field.value < 0 || *field.value > field.most {
			return o, fmt.Errorf("%s of %d is outside 0…%d", field.name, *field.value, field.most)
		}
		if *field.value == 0 {
			*field.value = field.usual
		}
	}
	if least := stagingBlocks * o.Block; o.StagingTokens < least {
		return o, fmt.Errorf("staging of %d tokens is less than %d blocks, %d", o.StagingTokens, stagingBlocks, least)
	}
	return o, nil
}

func (o Options) onCards() bool { return len(o.Devices) > 0 }

// stagingBlocks is how many blocks the staging holds at least: after a chunk it
// keeps three quarters, and the rest takes a block and a question.
const stagingBlocks = 8

// passBlocks is how many blocks of a prompt go through the weights together while
// nobody waits for the pass: fewer leave the products short of rows, and more gain little.
const passBlocks = 4

// limits bound every batch, and so the backend's scratch.
func (o Options) limits() model.Limits {
	l := model.Limits{Tokens: passBlocks*o.Block + o.MaxSequences, Sequences: o.MaxSequences, Staging: o.StagingTokens}
	if o.Passages != nil && o.onCards() {
		l.Blend = o.StagingTokens
	}
	return l
}
