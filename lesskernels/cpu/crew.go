package cpu

import "sync/atomic"

// Crew is one of a pool's threads in a program of many short stages, each of which needs
// what all threads did in the one before. All run the same program, and a stage costs them
// two lines of memory that one writes and another reads, where a Run costs a dozen, one
// after the other: between processors that share no cache, microseconds.
//
// A thread that is late finds the stages done that others have done without it, and
// goes through them: nobody waits for one that has taken nothing. So what a program does
// outside of its stages is to depend on nothing that stages change.
type Crew struct {
	Thread int
	pool   *Pool // nil: alone
	job    *job
	stage  uint64 // how many stages came before, of all programs
	due    int64  // and their units
	whole  bool   // it takes all that is left of its own share
	least  uint64 // units that it takes at a time otherwise, while there are so many
	ready  func() // of the stage, until it has been called
	ahead  []byte // what the thread will read, and asks for while it waits
}

// seat is what one thread tells the others, a cache line for each.
type seat struct {
	done atomic.Int64 // units of all stages of all programs
	_    [56]byte
	rest atomic.Uint64 // of its share of a stage: the units [first, end), and the stage's last bits
	_    [56]byte
}

// A stage has fewer units than unitLimit: rest holds two such numbers.
const (
	unitBits  = 20
	unitLimit = 1 << unitBits
	stageBits = 64 - 2*unitBits
)

// Crew runs a program on the threads and returns when all of its stages are done. When the
// workers belong to another Run, the caller does all of it alone. A stage's panic reaches
// the caller when the program has ended.
func (p *Pool) Crew(program func(c *Crew)) {
	if p.threads == 1 || !p.busy.TryLock() {
		program(&Crew{})
		return
	}
	j := &job{program: program, stage: p.stage, due: p.due}
	p.job.Store(j)
	p.unpark()
	c := Crew{pool: p, job: j, stage: p.stage, due: p.due}
	program(&c)
	p.stage, p.due = c.stage, c.due
	p.busy.Unlock()
	j.fail()
}

// join runs a worker's part of a program.
func (j *job) join(p *Pool, thread int) {
	j.program(&Crew{Thread: thread, pool: p, job: j, stage: j.stage, due: j.due})
}

// Stage shares out units [0, units) of equal cost: do does some of them, after ready, which
// is called on every thread that does any. All threads give the same number, and none goes
// on before all are done. A thread does its share in one piece: with each new one a stream
// of weights begins anew.
func (c *Crew) Stage(units int, ready func(), do func(from, to int)) {
	c.whole = true
	c.stageOf(units, ready, do)
}

// Uneven is Stage for units of unequal cost: some of a share stay to be taken by others.
func (c *Crew) Uneven(units int, do func(from, to int)) {
	c.whole = false
	c.stageOf(units, func() {}, do)
}

func (c *Crew) stageOf(units int, ready func(), do func(from, to int)) {
	p := c.pool
	if p == nil {
		ready()
		do(0, units)
		return
	}
	if units >= unitLimit {
		panic("cpu: a stage of too many units")
	}
	c.stage++
	c.due += int64(units)
	if p.done() >= c.due {
		return
	}
	c.least, c.ready = uint64(units/p.threads/leastParts), ready
	c.share(0, units, do)
	if c.soon() {
		return
	}
	for i := 1; i < p.threads; i++ {
		c.share(i, units, do)
	}
	c.wait()
}

// share does what there is to take of the share of the i-th thread from this one on.
func (c *Crew) share(i, units int, do func(from, to int)) {
	p := c.pool
	owner, done := (c.Thread+i)%p.threads, 0
	s := &p.seats[owner].rest
	c.open(s, owner*units/p.threads, (owner+1)*units/p.threads)
	for from, to := c.take(s, i > 0); from < to; from, to = c.take(s, i > 0) {
		c.do(do, from, to)
		done += to - from
	}
	if done > 0 {
		p.seats[c.Thread].done.Add(int64(done))
		p.ring()
	}
}

// do does units, and keeps the panic of one.
func (c *Crew) do(do func(from, to int), from, to int) {
	defer c.job.keep(from)
	if c.ready != nil {
		ready := c.ready
		c.ready = nil
		ready()
	}
	do(from, to)
}

// tag is the stage's in a share.
func (c *Crew) tag() uint64 { return c.stage & (1<<stageBits - 1) }

// open makes a share that of this stage, unless another thread has.
func (c *Crew) open(s *atomic.Uint64, first, end int) {
	for {
		rest := s.Load()
		if later := int64(c.tag()<<(2*unitBits)-rest&^(unitLimit*unitLimit-1)) <= 0; later {
			return
		}
		if s.CompareAndSwap(rest, c.tag()<<(2*unitBits)|uint64(first)<<unitBits|uint64(end)) {
			return
		}
	}
}

// take takes all or most of what is left of a share of this stage from the front, which
// the memory gives faster than small pieces, or half of it from the back.
func (c *Crew) take(s *atomic.Uint64, back bool) (from, to int) {
	for {
		rest := s.Load()
		first, end := rest>>unitBits%unitLimit, rest%unitLimit
		if rest>>(2*unitBits) != c.tag() || first >= end {
			return 0, 0
		}
		n := end - first
		if !c.whole {
			n = min(n, max(1, c.least, n*3/4))
		}
		from, to, less := first, first+n, rest+n<<unitBits
		if back {
			n = min(end-first, max(1, c.least, (end-first)/takeParts))
			from, to, less = end-n, end, rest-n
		}
		if s.CompareAndSwap(rest, less) {
			return int(from), int(to)
		}
	}
}

// done is how many units of all programs are done.
func (p *Pool) done() int64 {
	total := int64(0)
	for i := range p.seats {
		total += p.seats[i].done.Load()
	}
	return total
}

// ring wakes those that sleep until more units are done.
func (p *Pool) ring() {
	if p.sleepers.Load() > 0 {
		p.bell.L.Lock()
		p.bell.Broadcast()
		p.bell.L.Unlock()
	}
}

// Expect tells that products of n tokens come in the stage after the next, behind some
// other units: a thread that waits before it asks for the weights that it begins with.
func (c *Crew) Expect(products Products, n, before int) {
	if c.pool != nil {
		weights := products.from(n, c.Thread*(before+products.Units(n))/c.pool.threads-before)
		c.ahead = weights[:min(len(weights), mostAhead)]
	}
}

const (
	mostAhead  = 96 << 10 // a part of a thread's own cache
	aheadBytes = 512      // are asked for between two looks
)

// leastParts is the parts of a share of which a thread takes no less than one.
const leastParts = 8

// helpLooks are how often a thread looks, for about two microseconds, whether the others
// have done their shares before it takes of them: to reach for a share costs both threads
// as much as some units, and most of the time all end at once.
const helpLooks = 40

// soon waits for a moment and tells whether all units of the stage are done.
func (c *Crew) soon() bool {
	p := c.pool
	for len(c.ahead) >= aheadBytes && p.done() < c.due {
		prefetch(&c.ahead[0], aheadBytes/64)
		c.ahead = c.ahead[aheadBytes:]
	}
	for range helpLooks {
		if p.done() >= c.due {
			return true
		}
		pause(spinRounds)
	}
	return false
}

// wait returns when all units of the stage are done.
func (c *Crew) wait() {
	p := c.pool
	if spin(func() bool { return p.done() >= c.due }) {
		return
	}
	p.bell.L.Lock()
	defer p.bell.L.Unlock()
	p.sleepers.Add(1)
	defer p.sleepers.Add(-1)
	for p.done() < c.due {
		p.bell.Wait()
	}
}
