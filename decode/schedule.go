package decode

import (
	"slices"
	"time"

	"lessrag/decode/model"
)

// schedule lays out the next pass.
func (e *Engine) schedule() ([]*job, []model.Work) {
	running := slices.DeleteFunc(e.snapshot(), (*job).waitsForBlend)
	steps := e.scheduler.Next(e.tasks(running))
	passed := func(j *job) bool { return j.fed < len(j.prompt) }
	if !slices.ContainsFunc(steps, func(s Step) bool { return passed(running[s.Task]) }) {
		passed = func(*job) bool { return false } // no prompt was fed
	}
	for _, j := range running {
		if passed(j) {
			j.passed++
		}
	}

	var jobs []*job
	var works []model.Work
	ahead := 0
	for i, s := range steps {
		if i == 0 || steps[i-1].Task != s.Task {
			ahead = 0
		}
		j := running[s.Task]
		j.passed = 0
		w, err := e.work(j, ahead, s.Tokens)
		ahead += s.Tokens
		if err != nil {
			e.finish(j, "", err)
			continue
		}
		jobs, works = append(jobs, j), append(works, w)
	}
	return jobs, works
}

// admit starts the first of the waiting jobs, as many as it is the engine for, kept prefixes
// giving way. Where another one is, that is told.
func (e *Engine) admit() {
	var admitted []*job
	e.mu.Lock()
	for len(e.waiting) > 0 {
		j := e.waiting[0]
		if next := e.engineFor(j); next != e {
			if next != nil {
				next.stir()
			}
			break
		}
		e.waiting = slices.Delete(e.waiting, 0, 1)
		e.running = append(e.running, j)
		e.free -= j.plan.Bytes
		admitted = append(admitted, j)
	}
	e.mu.Unlock()
	now := time.Now()
	for _, j := range admitted {
		j.admitted = now
	}
	for _, j := range admitted {
		err := e.start(j)
		if e.loses(err) {
			return
		}
		if err != nil {
			e.finish(j, "", err)
		}
	}
}

// start makes an admitted job's sequence. One that is staged gets it when its
// prompt has been read.
func (e *Engine) start(j *job) (err error) {
	e.reclaim(0) // what admission promised beyond what was free
	e.preferPrefix(j)
	if j.blend != nil {
		e.idle.learn(j.blend.missing)
	}
	if j.staged || j.blended() {
		return nil
	}
	if j.sequence, err = e.backend.NewSequence(j.plan); err != nil {
		j.sequence = nil
		return err
	}
	e.resume(j, j.sequence)
	return nil
}

// work is the job's block of n tokens that comes after the next ahead ones.
func (e *Engine) work(j *job, ahead, n int) (model.Work, error) {
	if !j.staged || j.fed == len(j.prompt) {
		return j.work(ahead, n), nil
	}
	if e.staging.job != j {
		if err := e.enter(j); err != nil {
			return model.Work{}, err
		}
		n = e.scheduler.Tokens(j.task(e)) // some of the prompt may be there already
	}
	return e.stagedWork(j, n), nil
}

func (e *Engine) tasks(jobs []*job) []Task {
	t := make([]Task, len(jobs))
	for i, j := range jobs {
		t[i] = j.task(e)
	}
	return t
}

func (e *Engine) snapshot() []*job {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.running)
}
