package decode

// outboxChunks is how many chunks wait for a reader before text is joined.
const outboxChunks = 16

// outbox carries one answer to its reader and never waits for it: text that the
// reader is too slow for is joined into fewer chunks, and the last chunk has a
// place of its own. What waits is bounded by the answer itself.
type outbox struct {
	chunks  chan Chunk
	pending string // text that was not sent yet
}

func newOutbox() outbox {
	return outbox{chunks: make(chan Chunk, outboxChunks+1)}
}

func (o *outbox) text(s string) {
	o.pending += s
	if o.pending != "" && len(o.chunks) < outboxChunks {
		o.chunks <- Chunk{Text: o.pending}
		o.pending = ""
	}
}

// progress tells how far the prompt is; a reader that lags misses it.
func (o *outbox) progress(prefilled int) {
	if len(o.chunks) < outboxChunks {
		o.chunks <- Chunk{Prefilled: prefilled}
	}
}

// end sends the last chunk, with the text that is still pending.
func (o *outbox) end(last Chunk) {
	last.Text = o.pending
	o.chunks <- last
	close(o.chunks)
}
