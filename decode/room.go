package decode

// Room tells whether n more requests of planned bytes each could start or wait
// now: ErrClosed, a *NotReadyError or a *QueueFullError otherwise. Callers that have work to do
// before Submit ask first, so that a refusal comes before that work and not after.
func (e *Engine) Room(n int, bytes int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.room(n, bytes)
}

// room is Room with e.mu held.
func (e *Engine) room(n int, bytes int64) error {
	if e.closed {
		return ErrClosed
	}
	if why := e.unready(); why != nil {
		return &NotReadyError{why}
	}
	starts := int64(0) // requests that would not have to wait
	if len(e.waiting) == 0 && bytes > 0 {
		for _, e := range e.all {
			if e.lost == nil {
				starts += min(int64(max(0, e.options.MaxSequences-len(e.running))), (e.free+e.kept)/bytes)
			}
		}
	}
	if int64(len(e.waiting)+n) > int64(e.options.MaxQueue)+starts {
		return &QueueFullError{Queued: len(e.waiting), RetryAfter: e.retryAfter()}
	}
	return nil
}
