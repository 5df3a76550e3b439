package cache

// streaming is StreamingLLM (arXiv 2309.17453): the tokens of sinks, numbered
// anew without gaps. Rotary positions are relative, so it is enough to turn the
// sinks' keys by the number of tokens that were evicted, from an exact copy each
// time: the recent tokens stay where they were, and no distance ever exceeds the
// budget. Such a sequence may run beyond the model's context.
type streaming struct{ sinks }

// Turn writes to dst the keys k [n, headDim] bf16, post-RoPE, as if each stood by
// positions later.
type Turn func(dst, k []uint16, by int)

// renumber turns the sinks of a KV head, once others have been evicted.
func (s *Sequence) renumber(h *head) {
	held := h.positions[:h.len]
	if len(held) <= SinkTokens || int(held[SinkTokens]) == SinkTokens {
		return
	}
	n := SinkTokens * s.plan.Shape.HeadDim
	if !h.turned {
		copy(h.sinks, h.k[:n])
		h.turned = true
	}
	s.handlers.Turn(h.k[:n], h.sinks, int(held[SinkTokens])-SinkTokens)
}
