package decode

import (
	"reflect"
	"slices"
	"testing"
)

func TestScheduler(t *testing.T) {
	decoding := Task{}
	prompt := func(tokens int) Task { return Task{Prompt: tokens, Slots: 1 << 20} }
	at := func(fed, tokens, slots int) Task { return Task{Prompt: tokens, Fed: fed, Slots: slots} }
	full := func(fed, tokens int) Task { return Task{Prompt: tokens, Fed: fed, Slots: 8192, Joins: tokens} }
	passed := func(tokens, passes int) Task { return Task{Prompt: tokens, Slots: 1 << 20, Passed: passes} }
	staged := func(fed, tokens int) Task { return Task{Prompt: tokens, Fed: fed, Slots: 4096, Staged: true} }
	for _, test := range []struct {
		name    string
		running []Task
		want    []Step
	}{
		{"nothing to do", nil, nil},
		{"everyone decodes", []Task{decoding, decoding}, []Step{{0, 1}, {1, 1}}},
		{"a prompt's first block", []Task{prompt(300)}, []Step{{0, 128}}},
		{"a prompt's last block is what is left", []Task{at(256, 44, 1000)}, []Step{{0, 44}}},
		{"a block ends where it always ends", []Task{at(60, 300, 1000)}, []Step{{0, 68}}},
		{"decoding goes on beside a prompt, and comes first", []Task{prompt(500), decoding}, []Step{{1, 1}, {0, 128}}},
		{"short prompts share a pass", []Task{prompt(50), prompt(60), prompt(18), prompt(1)}, []Step{{3, 1}, {2, 18}, {0, 50}}},
		{"blocks are not cut to fit", []Task{prompt(50), prompt(100), prompt(5)}, []Step{{2, 5}, {0, 50}}},
		{"the shortest rest first", []Task{at(0, 8000, 8000), at(0, 200, 8000)}, []Step{{1, 128}}},
		{"of equals the first", []Task{prompt(200), prompt(200)}, []Step{{0, 128}}},
		{"one that was passed over long enough goes first", []Task{prompt(10), passed(8000, 4)}, []Step{{1, 128}}},
		{"and the one that waits longest first of all", []Task{passed(200, 5), passed(8000, 6), passed(100, 4)}, []Step{{1, 128}}},
		{"deep in a prompt blocks are halved", []Task{at(2048, 5000, 8192)}, []Step{{0, 64}}},
		{"and halved again", []Task{at(6144, 1000, 8192)}, []Step{{0, 32}}},
		{"as long as its cache is that deep", []Task{at(6144, 1000, 500)}, []Step{{0, 128}}},
		{"a deep block takes the time of a whole one", []Task{at(6144, 1000, 8192), prompt(2000)}, []Step{{0, 32}}},
		{"nobody waits for a pass of a full cache: its blocks are joined", []Task{full(6144, 1000)}, []Step{{0, 128}}},
		{"beside an answer they are not", []Task{full(6144, 1000), decoding}, []Step{{1, 1}, {0, 32}}},
		{"a last block that is not whole stays alone", []Task{full(6144, 100)}, []Step{{0, 96}}},
		{"and comes by itself", []Task{full(6240, 4)}, []Step{{0, 4}}},
		{"what is observed is fed in the same blocks as in company", []Task{{Prompt: 100, Fed: 6144, Slots: 8192, Joins: 70}}, []Step{{0, 64}}},
		{"joined blocks end where blocks end", []Task{full(2100, 1000)}, []Step{{0, 76}}},
		{"one prompt in the staging at a time", []Task{staged(0, 500), staged(128, 600), prompt(700)}, []Step{{1, 128}}},
		{"of those that wait for it the shortest", []Task{staged(0, 500), staged(0, 60), prompt(5)}, []Step{{2, 5}, {1, 60}}},
		{"a probe comes before the next block", []Task{{Prompt: 900, Fed: 4000, Slots: 4096, Staged: true, Probe: 20}}, []Step{{0, 20}}},
		{"a probe longer than a deep block goes alone", []Task{{Prompt: 900, Fed: 4000, Slots: 4096, Staged: true, Probe: 100}, prompt(1000)}, []Step{{0, 100}}},
	} {
		got := Scheduler{Block: 128}.Next(test.running)
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", test.name, got, test.want)
		}
	}
}

// Where no answer is running, the blocks of a prompt follow each other in one pass,
// and end where they would end alone.
func TestSchedulerChainsBlocks(t *testing.T) {
	sinks := func(fed, tokens int) Task { return Task{Prompt: tokens, Fed: fed, Slots: 500, Chains: tokens} }
	full := func(fed, tokens int) Task {
		return Task{Prompt: tokens, Fed: fed, Slots: 8192, Joins: tokens, Chains: tokens}
	}
	for _, test := range []struct {
		name    string
		running []Task
		want    []Step
	}{
		{"what evicts goes block by block", []Task{sinks(6000, 900)}, []Step{{0, 16}, {0, 128}, {0, 128}, {0, 128}}},
		{"to its end", []Task{sinks(0, 300)}, []Step{{0, 128}, {0, 128}, {0, 44}}},
		{"beside an answer it does not", []Task{sinks(0, 300), {}}, []Step{{1, 1}, {0, 128}}},
		{"up to where its cache is copied", []Task{{Prompt: 300, Slots: 500, Chains: 256}}, []Step{{0, 128}, {0, 128}}},
		{"others share the pass", []Task{sinks(0, 300), sinks(0, 130)}, []Step{{1, 128}, {1, 2}, {0, 128}, {0, 128}, {0, 44}}},
		{"in whole blocks", []Task{sinks(0, 400), sinks(0, 200)}, []Step{{1, 128}, {1, 72}, {0, 128}, {0, 128}}},
		{"what does not evict is joined", []Task{full(0, 1000)}, []Step{{0, 512}}},
		{"fewer tokens deep in a prompt", []Task{full(2048, 1000)}, []Step{{0, 256}}},
		{"and fewer still", []Task{full(6144, 1000)}, []Step{{0, 128}}},
		{"and its last block follows by itself", []Task{full(0, 300)}, []Step{{0, 256}, {0, 44}}},
	} {
		got := Scheduler{Block: 128, Pass: 512}.Next(test.running)
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", test.name, got, test.want)
		}
	}
}

// pass feeds what one pass feeds, as an engine does, and returns it.
func pass(s Scheduler, running []Task) []Step {
	steps := s.Next(running)
	for i := range running {
		if running[i].Prompt > 0 {
			running[i].Passed++
		}
	}
	for _, step := range steps {
		t := &running[step.Task]
		t.Passed = 0
		if t.Prompt > 0 {
			t.Prompt, t.Fed = t.Prompt-step.Tokens, t.Fed+step.Tokens
		}
	}
	return steps
}

// A prompt's blocks are the same whatever runs beside it, and everyone finishes.
func TestSchedulerBlocksDoNotDependOnCompany(t *testing.T) {
	s := Scheduler{Block: 16}
	blocks := func(company []Task) []int {
		running := append([]Task{{Prompt: 75, Slots: 1000}}, company...)
		var fed []int
		for passes := 0; running[0].Prompt > 0; passes++ {
			if passes > 100 {
				t.Fatal("the prompt is starved")
			}
			tokens := 0
			for _, step := range pass(s, running) {
				tokens += step.Tokens
				if step.Task == 0 {
					fed = append(fed, step.Tokens)
				}
			}
			if tokens > s.Block+3 {
				t.Fatalf("a pass of %d tokens", tokens)
			}
		}
		return fed
	}
	alone := blocks(nil)
	if want := []int{16, 16, 16, 16, 11}; !reflect.DeepEqual(alone, want) {
		t.Fatalf("alone in blocks of %v", alone)
	}
	for _, company := range [][]Task{{{Prompt: 40, Slots: 9}}, {{}, {Prompt: 3}}, {{Prompt: 1}, {Prompt: 200, Slots: 300}}} {
		if got := blocks(company); !reflect.DeepEqual(got, alone) {
			t.Errorf("beside %v in blocks of %v, alone %v", company, got, alone)
		}
	}
}

// A long prompt behind which short ones keep coming gets one pass of five, and
// they never wait for more than one of its blocks.
func TestSchedulerStarvesNobody(t *testing.T) {
	s := Scheduler{Block: 128}
	running := []Task{{Prompt: 8000, Slots: 8192}, {}}
	passes, longest, waited := 0, 0, 0
	for running[0].Prompt > 0 {
		if running[1].Prompt == 0 {
			running[1] = Task{Prompt: 128, Slots: 8192}
			waited = 0
		}
		steps := pass(s, running)
		passes++
		if running[0].Prompt > 128 && !slices.ContainsFunc(steps, func(step Step) bool { return step.Task == 1 }) {
			waited++
			longest = max(longest, waited)
		}
	}
	blocks := 0
	for end := 0; end < 8000; end = s.BlockEnd(end, 8192) {
		blocks++
	}
	if passes > blocks*(patience+1) || longest > 1 {
		t.Errorf("%d passes for %d blocks; a short prompt waited for %d", passes, blocks, longest)
	}
}

// Blocks end at places that follow from the position alone: rising, and where the
// cache has evicted nothing, the same for every cache.
func TestBlockEnds(t *testing.T) {
	for _, block := range []int{1, 3, 17, 100, 128, 512} {
		s := Scheduler{Block: block}
		for _, slots := range []int{10, 2048, 4000, 8192} {
			for fed := 0; fed < 9000; {
				end := s.BlockEnd(fed, slots)
				if end <= fed || end > fed+block {
					t.Fatalf("block %d, %d slots: from %d to %d", block, slots, fed, end)
				}
				if fed <= slots && end != s.BlockEnd(fed, 8192) {
					t.Fatalf("block %d: after %d tokens to %d with %d slots, to %d with more", block, fed, end, slots, s.BlockEnd(fed, 8192))
				}
				if last := s.lastEnd(end, slots); last != end {
					t.Fatalf("block %d, %d slots: the last end up to %d is %d", block, slots, end, last)
				}
				fed = end
			}
		}
	}
}
