package decode

import (
	"reflect"
	"testing"
)

func TestScheduler(t *testing.T) {
	const big = 1 << 40
	decoding := Task{Bytes: 10}
	prompt := func(tokens int) Task { return Task{Bytes: 10, Prompt: tokens} }
	for _, test := range []struct {
		name             string
		running, waiting []Task
		free             int64
		want             Batch
	}{
		{"nothing to do", nil, nil, big, Batch{}},
		{"everyone decodes", []Task{decoding, decoding}, nil, 0,
			Batch{Steps: []Step{{0, 1}, {1, 1}}}},
		{"a prompt's first block, admitted at once", nil, []Task{prompt(300)}, big,
			Batch{Admit: 1, Steps: []Step{{0, 128}}}},
		{"a prompt's last block is what is left", []Task{prompt(44)}, nil, 0,
			Batch{Steps: []Step{{0, 44}}}},
		{"decoding goes on beside a prompt, and comes first", []Task{prompt(500), decoding}, nil, 0,
			Batch{Steps: []Step{{1, 1}, {0, 128}}}},
		{"short prompts share a pass", nil, []Task{prompt(50), prompt(60), prompt(18), prompt(1)}, big,
			Batch{Admit: 4, Steps: []Step{{0, 50}, {1, 60}, {2, 18}}}},
		{"blocks are not cut to fit", []Task{prompt(50), prompt(100), prompt(5)}, nil, 0,
			Batch{Steps: []Step{{0, 50}}}},
		{"no bytes, no admission", []Task{decoding}, []Task{prompt(5)}, 9,
			Batch{Steps: []Step{{0, 1}}}},
		{"exactly enough bytes", nil, []Task{prompt(5), prompt(6)}, 20,
			Batch{Admit: 2, Steps: []Step{{0, 5}, {1, 6}}}},
		{"first come first served: a small one does not overtake", nil, []Task{{Bytes: 100, Prompt: 5}, prompt(5)}, 50,
			Batch{}},
		{"no more sequences than allowed", []Task{decoding, decoding, decoding}, []Task{prompt(5), prompt(5)}, big,
			Batch{Admit: 1, Steps: []Step{{0, 1}, {1, 1}, {2, 1}, {3, 5}}}},
	} {
		got := Scheduler{Block: 128, Sequences: 4}.Next(test.running, test.waiting, test.free)
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", test.name, got, test.want)
		}
	}
}

// A prompt's blocks are the same whatever runs beside it, and everyone finishes.
func TestSchedulerBlocksDoNotDependOnCompany(t *testing.T) {
	s := Scheduler{Block: 16, Sequences: 3}
	blocks := func(company []Task) []int {
		running := append([]Task{{Prompt: 75}}, company...)
		var fed []int
		for pass := 0; running[0].Prompt > 0; pass++ {
			if pass > 100 {
				t.Fatal("the prompt is starved")
			}
			tokens := 0
			for _, step := range s.Next(running, nil, 0).Steps {
				tokens += step.Tokens
				if step.Task == 0 {
					fed = append(fed, step.Tokens)
				}
				running[step.Task].Prompt = max(0, running[step.Task].Prompt-step.Tokens)
			}
			if tokens > s.Block+s.Sequences {
				t.Fatalf("a pass of %d tokens", tokens)
			}
		}
		return fed
	}
	alone := blocks(nil)
	if want := []int{16, 16, 16, 16, 11}; !reflect.DeepEqual(alone, want) {
		t.Fatalf("alone in blocks of %v", alone)
	}
	for _, company := range [][]Task{{{Prompt: 40}}, {{}, {Prompt: 3}}, {{Prompt: 1}, {Prompt: 200}}} {
		if got := blocks(company); !reflect.DeepEqual(got, alone) {
			t.Errorf("beside %v in blocks of %v, alone %v", company, got, alone)
		}
	}
}
