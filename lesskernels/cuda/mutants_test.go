package cuda

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"testing"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cuda/ptx"
)

// A mutation is a mistake that a kernel could have.
type mutation struct {
	name string
	from *regexp.Regexp
	to   string
}

var mutations = []mutation{
	{"a barrier is left out", regexp.MustCompile(`\tbar\.sync \t0;`), ""},
	{"a wait for copies is left out", regexp.MustCompile(`\tcp\.async\.wait_group[^;]*;`), ""},
	{"a group of copies is not closed", regexp.MustCompile(`\tcp\.async\.commit_group;`), ""},
	{"a matrix is not transposed", regexp.MustCompile(`\.trans\.shared`), ".shared"},
}

// mutants are the kernels that are changed, and what checks each.
var mutants = map[string]func(r *rig){
	"attend_d64_one":       func(r *rig) { r.checkAttend(Heads{Heads: 6, KVHeads: 2, Dim: 64}, false) },
	"attend_d128_block":    func(r *rig) { r.checkAttend(Heads{Heads: 6, KVHeads: 2, Dim: 128}, true) },
	"merge_d64_less":       func(r *rig) { r.checkMergeStates(Heads{Heads: 6, KVHeads: 2, Dim: 64}, 8) },
	"observe_d64_one":      func(r *rig) { r.checkObserve(Heads{Heads: 6, KVHeads: 2, Dim: 64}, Few) },
	"observe_d64_block":    func(r *rig) { r.checkObserve(Heads{Heads: 6, KVHeads: 2, Dim: 64}, Block) },
	"observe_d64_most":     func(r *rig) { r.checkObserve(Heads{Heads: 6, KVHeads: 2, Dim: 64}, Most) },
	"observe_d64_decayed":  func(r *rig) { r.checkObserve(Heads{Heads: 6, KVHeads: 2, Dim: 64}, Decayed) },
	"observe_d64_last":     func(r *rig) { r.checkObserve(Heads{Heads: 6, KVHeads: 2, Dim: 64}, Last) },
	"phi_d64":              func(r *rig) { r.checkPhi(Heads{Heads: 3, KVHeads: 1, Dim: 64}, 33, 3, false) },
	"absorb_d64":           func(r *rig) { r.checkAbsorb(Heads{Heads: 3, KVHeads: 1, Dim: 64}, 33, 3) },
	"absorb_moments_d64":   func(r *rig) { r.checkMoments(Heads{Heads: 2, KVHeads: 1, Dim: 64}) },
	"attend_packed_d64_4":  func(r *rig) { r.checkAttendPacked(Heads{Heads: 6, KVHeads: 2, Dim: 64}, 4) },
	"observe_packed_d64_2": func(r *rig) { r.checkAttendPacked(Heads{Heads: 6, KVHeads: 2, Dim: 64}, 2) },
	"pack_d64_4":           func(r *rig) { r.checkPack(Heads{Heads: 6, KVHeads: 2, Dim: 64}, 4) },
	"unpack_d128_2":        func(r *rig) { r.checkPack(Heads{Heads: 6, KVHeads: 2, Dim: 128}, 2) },
	"attend_packed_d64_16_pruned": func(r *rig) {
		r.checkAttendPruned(Heads{Heads: 6, KVHeads: 2, Dim: 64}, Pruned{Bits: 16, Channels: 39})
	},
	"observe_packed_d64_16_pruned": func(r *rig) {
		r.checkAttendPruned(Heads{Heads: 6, KVHeads: 2, Dim: 64}, Pruned{Bits: 16, Channels: 39})
	},
	"attend_packed_d64_2_pruned": func(r *rig) {
		r.checkAttendPruned(Heads{Heads: 6, KVHeads: 2, Dim: 64}, Pruned{Bits: 2, Channels: 39})
	},
	"observe_packed_d64_4_pruned": func(r *rig) {
		r.checkAttendPruned(Heads{Heads: 6, KVHeads: 2, Dim: 64}, Pruned{Bits: 4, Channels: 39})
	},
	"unpack_d64_4_pruned":    func(r *rig) { r.checkPrune(Heads{Heads: 6, KVHeads: 2, Dim: 64}, Pruned{Bits: 4, Channels: 39}) },
	"pack_d64_2_pruned":      func(r *rig) { r.checkPrune(Heads{Heads: 6, KVHeads: 2, Dim: 64}, Pruned{Bits: 2, Channels: 39}) },
	"unpack_d64_16_pruned":   func(r *rig) { r.checkPrune(Heads{Heads: 6, KVHeads: 2, Dim: 64}, Pruned{Bits: 16, Channels: 39}) },
	"squares_d64":            func(r *rig) { r.checkSquares(Heads{Heads: 6, KVHeads: 2, Dim: 64}) },
	"remember_d64":           func(r *rig) { r.checkRemember(Heads{Heads: 4, KVHeads: 2, Dim: 64}, 33, 5) },
	"multiply_nibbles_few":   func(r *rig) { r.checkMultiply(lesskernels.Q4_1, product{65, 256, 13}) },
	"multiply_nibbles_many":  func(r *rig) { r.checkMultiply(lesskernels.Q4_1, product{65, 256, 70}) },
	"multiply_octets16_many": func(r *rig) { r.checkMultiply(lesskernels.Q6_K, product{65, 256, 70}) },
	"multiply_octets32_few":  func(r *rig) { r.checkMultiply(lesskernels.Q8_0, product{65, 256, 13}) },
	"multiply_f16_many":      func(r *rig) { r.checkMultiply(lesskernels.F16, product{65, 256, 70}) },
	"attend_d256_one":        func(r *rig) { r.checkAttend(Heads{Heads: 6, KVHeads: 2, Dim: 256}, false) },
	"likely_of_blocks":       func(r *rig) { r.checkLikely(5000) },
	"likely_of_all":          func(r *rig) { r.checkLikely(5000) },
	"add_norm":               func(r *rig) { r.checkNorm(1500) },
}

// harmless are mutants that do what the kernel does, by their number. Copies whose group
// is not closed close with the next one: for the first groups, those of the first step, that
// is the same, since all of a step are waited for together.
var harmless = map[string][]int{
	"attend_d64_one: a group of copies is not closed":              {1},
	"attend_d256_one: a group of copies is not closed":             {1, 3}, // keys and values of a step are waited for together
	"multiply_f16_many: a group of copies is not closed":           {1},
	"attend_d128_block: a group of copies is not closed":           {1},
	"attend_d128_block: a barrier is left out":                     {14}, // another one follows before shared memory is touched
	"observe_d64_one: a barrier is left out":                       {2},  // it parts tiles of rows, and there is one
	"observe_d64_block: a barrier is left out":                     {9},  // what is written next was last read before an earlier one
	"phi_d64: a barrier is left out":                               {4},  // nothing follows that touches shared memory
	"phi_d64: a wait for copies is left out":                       {2},  // all have been waited for
	"phi_d64: a group of copies is not closed":                     {1, 2},
	"absorb_d64: a barrier is left out":                            {4, 18}, // each warp reads what it has written itself; others lie between the table's entry as it was and as it will be
	"absorb_d64: a group of copies is not closed":                  {1, 2},
	"pack_d64_4: a barrier is left out":                            {6, 24, 28}, // no warp touches what another one did before the next
	"attend_packed_d64_4: a barrier is left out":                   {18},        // likewise
	"attend_packed_d64_16_pruned: a group of copies is not closed": {1},
	"attend_packed_d64_2_pruned: a barrier is left out":            {4, 18}, // no warp touches what another one did before the next
	"observe_packed_d64_4_pruned: a barrier is left out":           {5},     // likewise
	"unpack_d64_16_pruned: a barrier is left out":                  {1},     // another one follows before keys are written over the zeros
	"remember_d64: a barrier is left out":                          {5, 6},  // each warp reads what it has written itself
	"remember_d64: a group of copies is not closed":                {1, 2},
	"multiply_nibbles_few: a barrier is left out":                  {4}, // each warp writes where it alone has read
	"multiply_octets32_few: a barrier is left out":                 {4},
	"multiply_nibbles_many: a barrier is left out":                 {32},
	"multiply_octets16_many: a barrier is left out":                {32},
}

// recorder is a test that goes on when it has failed.
type recorder struct {
	failed string
	undo   []func()
}

type stopped struct{}

func (*recorder) Helper()            {}
func (c *recorder) Cleanup(f func()) { c.undo = append(c.undo, f) }
func (c *recorder) Errorf(format string, args ...any) {
	c.failed += fmt.Sprintf(format, args...)
}
func (c *recorder) Fatal(args ...any) {
	c.failed += fmt.Sprint(args...)
	panic(stopped{})
}

// caught runs a kernel's check with another text of it and says what was wrong, "" if
// nothing was.
func caught(name, text string, check func(*rig)) (why string) {
	c := &recorder{}
	defer func() {
		if r := recover(); r != nil && r != (stopped{}) {
			panic(r)
		}
		why = c.failed
	}()
	d := ptx.New(1 << 26)
	r := &rig{t: c, d: d, Kernels: &Kernels{functions: maps.Clone(unchanged().functions)}, random: rand.New(rand.NewPCG(1, 2))}
	var err error
	r.s, err = d.NewStream()
	r.must(err)
	_, about, err := source(name)
	r.must(errors.Join(err, r.compile(d, name, text, about)))
	check(r)
	return c.failed
}

// unchanged are all kernels as they ship. Those of the interpreter belong to no one
// device.
var unchanged = sync.OnceValue(func() *Kernels {
	k, err := Load(ptx.New(1))
	if err != nil {
		panic(err)
	}
	return k
})

// TestMutants keeps the tests of kernels honest: none of the mistakes gets past them but
// those that are none.
func TestMutants(t *testing.T) {
	for name, check := range mutants {
		t.Run(name, func(t *testing.T) {
			text, _, err := source(name)
			if err != nil {
				t.Fatal(err)
			}
			if why := caught(name, text, check); why != "" {
				t.Fatalf("unchanged: %s", why)
			}
			for _, m := range mutations {
				var survivors []int
				places := m.from.FindAllStringIndex(text, -1)
				for i, at := range places {
					changed := text[:at[0]] + m.to + text[at[1]:]
					if caught(name, changed, check) == "" {
						survivors = append(survivors, i+1)
					}
				}
				if want := harmless[name+": "+m.name]; !slices.Equal(survivors, want) {
					t.Errorf("%s: numbers %v of %d are not noticed, want %v", m.name, survivors, len(places), want)
				}
			}
		})
	}
}
