package decode

// Scheduler decides what the next forward pass computes. It is pure: it knows no
// clock, no goroutine and no device.
//
// Requests are admitted first come, first served, while their bytes fit. Every
// running answer gets its next token in every pass, so that no prompt starves
// it; prompts share what one block holds. A prompt's blocks end at multiples of
// Block whatever else is running, and so its cache evicts at the same places
// alone or in company.
type Scheduler struct {
	Block     int // prompt tokens in a pass at most
	Sequences int // running at most
}

// Task is what the Scheduler knows of a request.
type Task struct {
	Bytes  int64 // of its Plan
	Prompt int   // tokens of its prompt still to feed; 0: it is decoding
}

// Batch is one decision.
type Batch struct {
	Admit int    // this many of the waiting start running, from the first
	Steps []Step // decoding ones first, prompts last
}

// Step feeds the next tokens of one task: an index into the running ones followed
// by the admitted ones.
type Step struct {
	Task   int
	Tokens int
}

// Next decides on one pass: free is how many bytes are not promised to anyone.
func (s Scheduler) Next(running, waiting []Task, free int64) Batch {
	var b Batch
	for b.Admit < len(waiting) && len(running)+b.Admit < s.Sequences && waiting[b.Admit].Bytes <= free {
		free -= waiting[b.Admit].Bytes
		b.Admit++
	}
	for i, t := range running {
		if t.Prompt == 0 {
			b.Steps = append(b.Steps, Step{Task: i, Tokens: 1})
		}
	}
	room := s.Block
	for i := range len(running) + b.Admit {
		t := pick(running, waiting, i)
		if t.Prompt == 0 {
			continue
		}
		tokens := min(t.Prompt, s.Block)
		if tokens > room {
			break // whole blocks only, and nobody overtakes
		}
		room -= tokens
		b.Steps = append(b.Steps, Step{Task: i, Tokens: tokens})
	}
	return b
}

func pick(running, waiting []Task, i int) Task {
	if i < len(running) {
		return running[i]
	}
	return waiting[i-len(running)]
}
