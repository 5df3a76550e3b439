package cpu

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// A waiting goroutine looks spins times before it parks, for some tens of
// microseconds: longer than the serial work between two products of a step, and
// far shorter than a time slice, so that little is lost to a program that has taken
// the other's core. Most of the time it pauses, and now and then it yields, so that
// goroutines that have no thread of their own get on.
const (
	spins      = 600
	spinRounds = 4  // pauses between two looks, some 50 ns
	spinYield  = 16 // looks between two yields
)

// spin waits until a condition holds, or for the time of all spins, and tells which.
func spin(met func() bool) bool {
	for i := range spins {
		if met() {
			return true
		}
		if i%spinYield == spinYield-1 {
			runtime.Gosched()
		} else {
			pause(spinRounds)
		}
	}
	return met()
}

// Pool runs tasks on a fixed set of goroutines. An idle pool costs no
// processor time: workers yield for a moment after their last task, then park.
type Pool struct {
	threads int
	busy    sync.Mutex          // held by the Run that owns the workers
	job     atomic.Pointer[job] // the newest job; workers compare it with the last they saw
	parked  atomic.Int32        // workers that wait for a token from wake
	wake    chan struct{}
	ended   chan struct{} // the last task of a job tells a parked Run
	workers sync.WaitGroup

	seats    []seat // of each thread in a Crew
	stage    uint64 // how many stages of programs there were; of the Run that owns the workers
	due      int64  // and their units
	sleepers atomic.Int32
	bell     sync.Cond
}

// job is the work of one Run. What one thread writes shares no cache line with what
// another reads again and again.
type job struct {
	one     func(task int)             // does one task, or
	on      func(task, thread int)     // does it knowing the thread, or
	some    func(from, to, thread int) // all of [from, to)
	more    []share                    // of the threads beyond fewThreads
	failure atomic.Pointer[failure]
	program func(c *Crew) // runs on every thread that comes, or
	stop    bool          // workers leave

	stage uint64 // with which the program begins
	due   int64

	left    atomic.Int64 // tasks not yet done
	waiting atomic.Int32 // 0: nobody parked, 1: Run parked, 2: all done
	_       [48]byte

	shares [fewThreads]share // of each thread, the caller's first
}

// fewThreads have shares in the job itself: an allocation less in each of the hundreds
// of Runs of a step.
const fewThreads = 4

// share is the run of tasks that a thread does from the front. One that has done its
// own takes from the back of another's, so that each goes through memory that lies
// together, and all end at the same time.
type share struct {
	rest atomic.Uint64 // the tasks [first, end) as first<<32 | end
	_    [56]byte      // a cache line for each thread
}

// share is that of a thread.
func (j *job) share(thread int) *share {
	if thread < fewThreads {
		return &j.shares[thread]
	}
	return &j.more[thread-fewThreads]
}

// take takes tasks [from, to) from the front of the share, or from its back: one, or
// where some are done at a time a part of what is left, so that the last are small.
func (s *share) take(back, some bool) (from, to int) {
	for {
		rest := s.rest.Load()
		first, end := rest>>32, rest&math.MaxUint32
		if first >= end {
			return 0, 0
		}
		n := uint64(1)
		if some {
			n = max(1, (end-first)/takeParts)
		}
		from, to, less := first, first+n, rest+n<<32
		if back {
			from, to, less = end-n, end, rest-n
		}
		if s.rest.CompareAndSwap(rest, less) {
			return int(from), int(to)
		}
	}
}

// takeParts is the part of what is left that a thread takes at a time: with halves a
// share is done in few pieces, of which the last are small.
const takeParts = 2

// failure is a task's panic on its way to the caller of Run.
type failure struct{ value any }

// NewPool starts a pool of that many threads, the caller of Run included;
// threads <= 0 means GOMAXPROCS. Close ends its goroutines.
func NewPool(threads int) *Pool {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	p := &Pool{threads: threads, wake: make(chan struct{}, threads), ended: make(chan struct{}, 1), seats: make([]seat, threads)}
	p.bell.L = new(sync.Mutex)
	idle := &job{}
	p.job.Store(idle)
	for thread := range threads - 1 {
		p.workers.Add(1)
		go p.work(idle, thread+1)
	}
	return p
}

// Threads tells how many tasks may run at once.
func (p *Pool) Threads() int { return p.threads }

// Run calls f once for every task in [0, tasks) and returns when all are done.
// The caller works too; every thread begins with a run of adjacent tasks. When the
// workers belong to another Run, as in a call from inside a task, the caller does all
// of its tasks itself. A task's panic reaches the caller: at once where the caller
// works alone, otherwise when every task has ended.
func (p *Pool) Run(tasks int, f func(task int)) {
	if tasks > 1 && p.threads > 1 && p.busy.TryLock() {
		p.start(tasks, &job{one: f})
		return
	}
	for i := range tasks {
		f(i)
	}
}

// RunOn is Run for tasks that use scratch: f is told which of the pool's threads it is
// on, and no two tasks of one RunOn are on the same thread at once.
func (p *Pool) RunOn(tasks int, f func(task, thread int)) {
	if tasks > 1 && p.threads > 1 && p.busy.TryLock() {
		p.start(tasks, &job{on: f})
		return
	}
	for i := range tasks {
		f(i, 0)
	}
}

// Ranges is RunOn for many short tasks of about the same cost: f does those of [from, to).
func (p *Pool) Ranges(tasks int, f func(from, to, thread int)) {
	switch {
	case tasks > 1 && p.threads > 1 && p.busy.TryLock():
		p.start(tasks, &job{some: f})
	case tasks > 0:
		f(0, tasks, 0)
	}
}

// start shares a job out, works, and waits for its end. The caller has locked busy.
func (p *Pool) start(tasks int, j *job) {
	j.more = make([]share, max(0, p.threads-fewThreads))
	for i := range p.threads {
		j.share(i).rest.Store(uint64(i*tasks/p.threads)<<32 | uint64((i+1)*tasks/p.threads))
	}
	j.left.Store(int64(tasks))
	p.job.Store(j)
	p.unpark()
	j.drain(p, 0)
	j.wait(p)
	p.busy.Unlock()
	j.fail()
}

// fail passes a task's panic on.
func (j *job) fail() {
	if fail := j.failure.Load(); fail != nil {
		panic(fail.value)
	}
}

// Close ends the workers. Later Runs do their tasks on the caller alone.
func (p *Pool) Close() {
	p.busy.Lock() // never given back: no Run may publish a job from now on
	p.job.Store(&job{stop: true})
	p.unpark()
	p.workers.Wait()
}

// work is a worker's life: wait for a new job, do what is left of it.
func (p *Pool) work(seen *job, thread int) {
	defer p.workers.Done()
	for {
		seen = p.await(seen)
		if seen.stop {
			return
		}
		if seen.program != nil {
			seen.join(p, thread)
			continue
		}
		seen.drain(p, thread)
	}
}

// await returns the newest job once it differs from the one seen last.
func (p *Pool) await(seen *job) *job {
	if spin(func() bool { return p.job.Load() != seen }) {
		return p.job.Load()
	}
	for {
		p.parked.Add(1)
		if j := p.job.Load(); j != seen && p.unregister() {
			return j
		}
		<-p.wake
		if j := p.job.Load(); j != seen {
			return j
		}
	}
}

// unregister takes one parked worker off the count; false means that a waker
// has counted it already and its token is on the way.
func (p *Pool) unregister() bool {
	for n := p.parked.Load(); n > 0; n = p.parked.Load() {
		if p.parked.CompareAndSwap(n, n-1) {
			return true
		}
	}
	return false
}

// unpark sends a token to every parked worker.
func (p *Pool) unpark() {
	if p.parked.Load() == 0 {
		return
	}
	for range p.parked.Swap(0) {
		p.wake <- struct{}{}
	}
}

// drain does tasks until none is left to take, a thread's own share first.
func (j *job) drain(p *Pool, thread int) {
	done := 0
	for i := range p.threads {
		s := j.share((thread + i) % p.threads)
		for {
			from, to := s.take(i > 0, j.some != nil)
			if from == to {
				break
			}
			j.do(from, to, thread)
			done += to - from
		}
	}
	if done > 0 && j.left.Add(int64(-done)) == 0 && !j.waiting.CompareAndSwap(0, 2) {
		p.ended <- struct{}{}
	}
}

// do runs tasks and keeps the panic of one.
func (j *job) do(from, to, thread int) {
	defer j.keep(from)
	switch {
	case j.some != nil:
		j.some(from, to, thread)
	case j.on != nil:
		j.on(from, thread)
	default:
		j.one(from)
	}
}

// keep keeps a panic, deferred by who does a task.
func (j *job) keep(task int) {
	if v := recover(); v != nil {
		j.failure.CompareAndSwap(nil, &failure{fmt.Sprintf("cpu: task %d: %v", task, v)})
	}
}

// wait returns when every task is done.
func (j *job) wait(p *Pool) {
	spin(func() bool { return j.left.Load() == 0 })
	if j.waiting.CompareAndSwap(0, 1) {
		<-p.ended
	}
}
