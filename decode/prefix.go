package decode

import (
	"slices"

	"lessrag/decode/cache"
	"lessrag/decode/model"
)

// prefixes are the beginnings of prompts that were kept: copies of their caches,
// from which a prompt that begins the same goes on. A copy is taken where Engine.seams
// says that a prompt may be parted, so that it gives
// the same answer, bit for bit, with it as without. They belong to the engine's
// goroutine, the least recently used first, and take memory that nobody needs.
type prefixes []*prefix

type prefix struct {
	tokens   []int32
	plan     cache.Plan     // of the sequence that was fed them
	sequence model.Sequence // its copy
	bytes    int64
}

// plain tells whether the copy has all tokens and nothing else: then every shorter
// beginning can be had from it, under every plan.
func (p *prefix) plain() bool { return len(p.tokens) <= p.plan.Plain() }

// find is the prefix that gives a prompt, which may reuse at most all of tokens,
// the most of them: n; nil where none gives any. shared is how far any prefix
// agrees with the prompt, whether it can be used or not. end is the last place at
// or before n where the prompt may be parted: see Engine.seams.
func (ps prefixes) find(tokens []int32, plan cache.Plan, end func(n int) int) (found *prefix, n, shared int) {
	for _, p := range ps {
		common := agree(tokens, p.tokens)
		shared = max(shared, common)
		usable := 0
		switch {
		case p.plain():
			usable = end(min(common, plan.Plain()))
		case common == len(p.tokens) && sameRun(plan, p.plan):
			usable = common
		}
		if usable > n {
			found, n = p, usable
		}
	}
	return found, n, shared
}

// covers tells whether a prefix makes another of these tokens needless.
func (ps prefixes) covers(tokens []int32, plan cache.Plan) bool {
	return slices.ContainsFunc(ps, func(p *prefix) bool {
		return agree(tokens, p.tokens) == len(tokens) &&
			(p.plain() && len(tokens) <= plan.Plain() || len(tokens) == len(p.tokens) && sameRun(plan, p.plan))
	})
}

// use makes p the most recently used.
func (ps prefixes) use(p *prefix) {
	i := slices.Index(ps, p)
	copy(ps[i:], ps[i+1:])
	ps[len(ps)-1] = p
}

// agree is how many first tokens are the same.
func agree(a, b []int32) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// sameRun tells whether sequences with two plans keep the same tokens.
func sameRun(a, b cache.Plan) bool {
	return a.Spec == b.Spec && a.Keep == b.Keep && a.Interval == b.Interval && a.Staging == b.Staging
}

// keepPoints are the places in a prompt, after the reused tokens, where its cache
// is copied, rising: the last one that another prompt can resume from, the last
// one where nothing is evicted yet, and the end of what it shares with a prefix
// that could not give it.
func keepPoints(most, reused, shared int, plan cache.Plan, end func(n int) int) []int {
	points := []int{end(most), end(min(most, plan.Plain())), end(min(most, shared))}
	slices.Sort(points)
	points = slices.Compact(points)
	return slices.DeleteFunc(points, func(n int) bool { return n <= reused })
}

// resume lets a job that was fed nothing yet go on from a kept prefix, and decides
// where its own cache will be copied. The sequence is the one that it is fed to.
func (e *Engine) resume(j *job, s model.Sequence) {
	plan, most := s.Plan(), j.reusable(e.options)
	end := e.seams(plan, len(j.prompt))
	p, n, shared := e.prefixes.find(j.prompt[:most], plan, end)
	if p != nil {
		e.mu.Lock()
		e.prefixes.use(p)
		e.mu.Unlock()
		e.backend.Adopt(s, p.sequence, n)
		j.fed, j.reused = n, n
		j.out.progress(n)
		e.mu.Lock()
		e.stats.Reused += int64(n)
		e.mu.Unlock()
	}
	j.keepAt = keepPoints(most, n, shared, plan, end)
}

// seam is where prompts may be parted inside a block: kernels take so many queries of it together,
// from its beginning, and round them alike.
const seam = 16

// seams tells where a prompt of that many tokens may be parted: the last such place at or before n.
// It is where a block ends; or, where the cache holds the whole prompt, at every seam behind the first
// block: what a token gives does not depend on the block that it is read in, but what is evicted does.
// On a card it may.
func (e *Engine) seams(plan cache.Plan, prompt int) func(n int) int {
	slots, whole := slices.Max(plan.Slots), prompt <= plan.Plain() && !e.options.onCards()
	return func(n int) int {
		last := e.scheduler.lastEnd(n, slots)
		if last > 0 && whole {
			last = max(last, n-n%seam)
		}
		return last
	}
}

// keep copies the cache of a job that has reached some of its keepPoints.
func (e *Engine) keep(j *job, s model.Sequence) {
	for len(j.keepAt) > 0 && j.keepAt[0] <= j.fed {
		e.keepFirst(j.prompt[:j.keepAt[0]], s)
		j.keepAt = j.keepAt[1:]
	}
}

// keepRead is keep for a prompt that has been read, when its first token is on its way and nobody waits for
// the copy: neither its sequence nor the staging has been fed anything else yet.
func (e *Engine) keepRead(j *job) {
	if j.read != nil {
		e.keep(j, j.read)
		j.read = nil
	}
}

// keepFirst copies what a sequence held after these tokens, its first ones, if there is
// memory that nobody needs, in place of older copies if need be.
func (e *Engine) keepFirst(tokens []int32, s model.Sequence) {
	plan := s.Plan()
	if e.prefixes.covers(tokens, plan) || !e.reclaim(s.Held().Bytes) {
		return
	}
	c, err := e.backend.Copy(s, len(tokens))
	if err != nil {
		return // the system has no memory for it; the answer needs none
	}
	added := &prefix{tokens: slices.Clone(tokens), plan: plan, sequence: c, bytes: c.Plan().Bytes}
	for _, old := range slices.Clone(e.prefixes) {
		if added.plain() && old.plain() && agree(tokens, old.tokens) == len(old.tokens) {
			e.drop(old) // the new one has all of it
		}
	}
	e.mu.Lock()
	e.prefixes = append(e.prefixes, added)
	e.free -= added.bytes
	e.kept += added.bytes
	e.mu.Unlock()
}

// reclaim gives prefixes up, the least recently used first, until that many bytes
// are free. It tells whether they are; if they cannot be, it gives none up.
func (e *Engine) reclaim(bytes int64) bool {
	e.mu.Lock()
	free, kept := e.free, e.kept
	e.mu.Unlock()
	if free+kept < bytes {
		return false
	}
	for free < bytes {
		oldest := e.prefixes[0]
		free += oldest.bytes
		e.drop(oldest)
	}
	return true
}

// known is how many first tokens of a job's prompt it would go on from. e.mu is held.
func (e *Engine) known(j *job) int {
	plan, err := e.fedUnder(j)
	if err != nil {
		return 0
	}
	_, n, _ := e.prefixes.find(j.prompt[:j.reusable(e.options)], plan, e.seams(plan, len(j.prompt)))
	return n
}

// drop gives one prefix up.
func (e *Engine) drop(p *prefix) {
	p.sequence.Free() // an error would mean that its memory is not mapped: it is gone either way
	e.mu.Lock()
	i := slices.Index(e.prefixes, p)
	e.prefixes = slices.Delete(e.prefixes, i, i+1)
	e.free += p.bytes
	e.kept -= p.bytes
	e.mu.Unlock()
}
