package decode

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"lessrag/decode/model"
	"lessrag/decode/tokenizer"
)

// Engine runs many sequences at once over one model, on one device. One goroutine owns the
// backend; all methods are safe for concurrent use. Where there are several devices, each has an engine, and they share the
// requests that wait: any of them speaks for all but in what works between passes, as Perplexity does.
type Engine struct {
	*engines
	options   Options
	backend   Backend
	blender   Blender // the same; nil where it is none
	scheduler Scheduler
	vocabulary
	tokenizer *tokenizer.Tokenizer
	template  *Template
	info      Info

	headWeights []float32    // [layers·kvHeads] how much each KV head finds answers; nil: not measured
	clock       *model.Clock // nil unless Options.Profile
	release     []func()     // what Open took, undone by Close

	wake  chan struct{}      // something changed; never blocks
	calls chan func(Backend) // run between two passes
	quit  chan struct{}      // closed by Close
	ended chan struct{}      // closed when the goroutine has ended

	recover func() error     // puts the model on a device again that was lost; nil: nothing can
	retry   <-chan time.Time // when to try it next; nil: the device is not lost

	prefixes prefixes // of the goroutine
	staging  staging
	desk     model.Sequence // nil until a prompt was blended
	idle     idle

	identity string         // of what computes passages: weights and arithmetic
	states   string         // of the feature maps that compute states of LESS
	writes   sync.WaitGroup // of passages to their store

	// Guarded by mu, and so is the writing of prefixes.
	running []*job // in the order of admission
	free    int64  // bytes of cache memory that nobody has
	kept    int64  // bytes of prefixes, which give way to a request
	stats   Stats
	lost    error // why the device cannot be used; nil: it can
	cause   error // what it was lost by, the last time
}

// vocabulary is what the engine needs to know of tokens.
type vocabulary struct {
	piece func(token int32) []byte
	isEnd func(token int32) bool
}

// newEngine starts an engine over any backend, which it will close. The clock may
// be nil.
func newEngine(b Backend, v vocabulary, o Options, clock *model.Clock) *Engine {
	return newEngines([]Backend{b}, v, o, clock)[0]
}

// newEngines starts engines that share their requests.
func newEngines(backends []Backend, v vocabulary, o Options, clock *model.Clock) []*Engine {
	shared := &engines{}
	for _, b := range backends {
		e := &Engine{engines: shared, options: o, backend: b, vocabulary: v, clock: clock, headWeights: o.HeadWeights,
			scheduler: Scheduler{Block: o.Block, Pass: passBlocks * o.Block},
			wake:      make(chan struct{}, 1), calls: make(chan func(Backend)),
			quit: make(chan struct{}), ended: make(chan struct{}),
			free: o.CacheMemory, stats: Stats{Slots: o.MaxSequences, CacheMemory: o.CacheMemory},
		}
		e.blender, _ = b.(Blender)
		shared.all = append(shared.all, e)
	}
	for _, e := range shared.all {
		go e.run()
	}
	return shared.all
}

// Tokenizer is the model's own.
func (e *Engine) Tokenizer() *tokenizer.Tokenizer { return e.tokenizer }

// Template is the model's chat template.
func (e *Engine) Template() *Template { return e.template }

// Close ends every running and waiting answer with ErrClosed, and gives
// everything back. It returns when that is done.
func (e *Engine) Close() {
	e.mu.Lock()
	again := e.closed
	e.closed = true
	e.mu.Unlock()
	if !again {
		for _, e := range e.all {
			close(e.quit)
		}
	}
	for _, e := range e.all {
		<-e.ended
	}
}

// run is the engine's goroutine.
func (e *Engine) run() {
	defer close(e.ended)
	for {
		e.reap()
		if e.step() {
			e.stir() // and come round again
		}
		select {
		case <-e.quit:
			e.shutDown()
			return
		case call := <-e.calls:
			call(e.backend)
		case <-e.retry:
			e.revive()
		case <-e.wake:
		case <-e.idle.wait():
			e.useIdleTime()
		}
	}
}

// step is one forward pass: schedule, forward, sample and send. It tells whether
// there was anything to do.
func (e *Engine) step() bool {
	e.clock.Start()
	e.admit()
	blended := e.blend()
	jobs, works := e.schedule()
	if len(jobs) == 0 {
		if blended {
			e.idle.began = false
		}
		return blended
	}
	e.idle.began = false
	results, err := e.backend.Forward(works)
	if e.loses(err) {
		return true
	}
	for i, j := range jobs {
		if i > 0 && jobs[i-1] == j && !e.isRunning(j) {
			continue // its earlier block was the end of it
		}
		if err != nil {
			e.finish(j, "", fmt.Errorf("forward pass: %w", err))
			continue
		}
		e.take(j, works[i], results[i])
	}
	e.clock.Mark(model.Engine)
	return true
}

// take moves a job on by what a pass gave.
func (e *Engine) take(j *job, w model.Work, r model.Result) {
	if r.Abandoned {
		e.finish(j, FinishCancelled, nil)
		return
	}
	if j.fed < len(j.prompt) {
		if err := e.feed(j, w); err != nil {
			e.finish(j, "", err)
			return
		}
	}
	if !w.Logits {
		return
	}
	token, err := j.next(r)
	e.clock.Mark(model.Sampling)
	if err != nil {
		e.finish(j, "", err)
		return
	}
	j.last = time.Now()
	if j.first.IsZero() {
		j.prefilled, j.first = j.last, j.last
	}
	if e.isEnd(token) && !j.ignoreEnd && len(j.force) == 0 {
		e.keepRead(j)
		e.finish(j, FinishStop, nil)
		return
	}
	j.tokens = append(j.tokens, token)
	e.count(0, 1)
	text, stopped := j.text.push(e.piece(token))
	j.write(text)
	e.keepRead(j)
	switch {
	case stopped:
		e.finish(j, FinishStop, nil)
	case len(j.tokens) == j.maxTokens:
		e.finish(j, FinishLength, nil)
	}
}

// feed moves a job on in its prompt, by a block or a probe.
func (e *Engine) feed(j *job, w model.Work) error {
	if w.Probe {
		return e.shrink(j)
	}
	j.fed += len(w.Tokens)
	j.out.progress(j.fed)
	e.count(len(w.Tokens), 0)
	if e.staging.job == j {
		e.staging.held += len(w.Tokens)
	}
	if j.read = w.Sequence; w.Sequence.Plan().Plain() < len(j.prompt) || e.options.onCards() {
		e.keep(j, w.Sequence) // before more is evicted or counted
	}
	if e.staging.job == j && e.staging.ended(j, e) {
		return e.settle(j)
	}
	return nil
}

// reap ends what nobody waits for any more.
func (e *Engine) reap() {
	e.mu.Lock()
	cancelled := func(j *job) bool { return j.ctx.Err() != nil }
	gone := e.withdraw(cancelled)
	for _, j := range e.running {
		if cancelled(j) {
			gone = append(gone, j)
		}
	}
	e.mu.Unlock()
	for _, j := range gone {
		e.finish(j, FinishCancelled, nil)
	}
}

// finish frees the memory of a job, which is not waiting any more, and sends its last chunk: a Result with the reason,
// or the error.
func (e *Engine) finish(j *job, reason string, err error) {
	j.unwatch()
	j.write(j.text.flush())
	last := Chunk{Err: err}
	if err == nil {
		last.Result = j.result(reason, e.info.Maps)
	}
	if e.staging.job == j {
		e.staging.job = nil
	}
	if j.sequence != nil {
		if err := j.sequence.Free(); err != nil && last.Err == nil {
			last = Chunk{Err: fmt.Errorf("free a sequence: %w", err)}
		}
	}
	e.mu.Lock()
	if i := slices.Index(e.running, j); i >= 0 {
		e.running = slices.Delete(e.running, i, i+1)
		e.free += j.plan.Bytes
		e.learnPace(j)
	}
	e.mu.Unlock()
	j.out.end(last)
	e.stir() // what it held may admit the next one
}

func (e *Engine) isRunning(j *job) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.running, j)
}

// count adds to what was fed and produced since the start.
func (e *Engine) count(prompt, produced int) {
	e.mu.Lock()
	e.stats.Prompt += int64(prompt)
	e.stats.Tokens += int64(produced)
	e.mu.Unlock()
}

func (e *Engine) shutDown() {
	e.mu.Lock()
	jobs := slices.Concat(e.running, e.withdraw(everyJob))
	e.mu.Unlock()
	for _, j := range jobs {
		e.finish(j, "", ErrClosed)
	}
	for len(e.prefixes) > 0 {
		e.drop(e.prefixes[0])
	}
	for _, s := range []model.Sequence{e.staging.sequence, e.desk} {
		if s != nil {
			s.Free()
		}
	}
	if e.idle.feeder != nil {
		e.idle.feeder.free()
	}
	e.writes.Wait()
	e.backend.Close()
	for _, release := range e.release {
		release()
	}
}

// do runs f on the engine's goroutine, between two passes.
func (e *Engine) do(ctx context.Context, f func(Backend)) error {
	done := make(chan struct{})
	select {
	case e.calls <- func(b Backend) { defer close(done); f(b) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-e.ended:
		return ErrClosed
	}
	<-done
	return nil
}
