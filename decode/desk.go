package decode

import (
	"fmt"

	"lessrag/decode/cache"
	"lessrag/decode/model"
)

// deskRound is what the slots of a desk are a multiple of, so that the next prompt of
// about the same length finds it large enough.
const deskRound = 1024

// takeDesk readies the scratch sequence in which a job's prompt is put together. It is
// one for the engine, as the staging is, and is no part of CacheMemory.
func (e *Engine) takeDesk(j *job) (model.Sequence, error) {
	n := len(j.prompt)
	if d := e.desk; d != nil && (d.Plan().Spec != j.plan.Spec.Desk() || d.Plan().Keep < n) {
		e.desk = nil
		if err := d.Free(); err != nil {
			return nil, fmt.Errorf("free the desk: %w", err)
		}
	}
	if e.desk == nil {
		shape := e.backend.Shape(j.plan.Spec.Policy)
		plan, err := cache.NewDesk(j.plan.Spec, min(e.mostBlended(), (n+deskRound-1)/deskRound*deskRound), shape)
		if err != nil {
			return nil, err
		}
		if e.desk, err = e.backend.NewSequence(plan); err != nil {
			e.desk = nil
			return nil, fmt.Errorf("desk: %w", err)
		}
		e.mu.Lock()
		e.stats.Desk = plan.Bytes + e.blender.BlendBytes(plan.Keep)
		e.mu.Unlock()
	}
	e.backend.Reset(e.desk)
	return e.desk, nil
}

// clearDesk moves what the job's cache keeps of its prompt to the job's own sequence.
func (e *Engine) clearDesk(j *job, desk model.Sequence) (err error) {
	if j.staged {
		return e.settleFrom(j, desk)
	}
	if j.sequence, err = e.backend.NewSequence(j.plan); err != nil {
		j.sequence = nil
		return err
	}
	e.blender.Move(j.sequence, desk)
	return nil
}
