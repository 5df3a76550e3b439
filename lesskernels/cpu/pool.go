package cpu

import (
	"fmt"
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
	done    chan struct{} // the last task of a job tells a parked Run
	workers sync.WaitGroup
}

// job is one Run's work.
type job struct {
	f       func(int)
	tasks   int64
	next    atomic.Int64 // the next task to hand out
	left    atomic.Int64 // tasks not yet done
	waiting atomic.Int32 // 0: nobody parked, 1: Run parked, 2: all done
	failure atomic.Pointer[failure]
	stop    bool // workers leave
}

// failure is a task's panic on its way to the caller of Run.
type failure struct{ value any }

// NewPool starts a pool of that many threads, the caller of Run included;
// threads <= 0 means GOMAXPROCS. Close ends its goroutines.
func NewPool(threads int) *Pool {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	p := &Pool{threads: threads, wake: make(chan struct{}, threads), done: make(chan struct{}, 1)}
	idle := &job{}
	p.job.Store(idle)
	for range threads - 1 {
		p.workers.Add(1)
		go p.work(idle)
	}
	return p
}

// Threads tells how many tasks may run at once.
func (p *Pool) Threads() int { return p.threads }

// Run calls f once for every task in [0, tasks) and returns when all are done.
// The caller works too. When the workers belong to another Run, as in a call
// from inside a task, the caller does all of its tasks itself. A task's panic
// reaches the caller: at once where the caller works alone, otherwise when every
// task has ended.
func (p *Pool) Run(tasks int, f func(task int)) {
	if tasks <= 0 {
		return
	}
	if tasks == 1 || p.threads == 1 || !p.busy.TryLock() {
		for i := range tasks {
			f(i)
		}
		return
	}
	j := &job{f: f, tasks: int64(tasks)}
	j.left.Store(int64(tasks))
	p.job.Store(j)
	p.unpark()
	j.drain(p)
	j.wait(p)
	p.busy.Unlock()
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
func (p *Pool) work(seen *job) {
	defer p.workers.Done()
	for {
		seen = p.await(seen)
		if seen.stop {
			return
		}
		seen.drain(p)
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

// drain does tasks until none is left to hand out.
func (j *job) drain(p *Pool) {
	for {
		i := j.next.Add(1) - 1
		if i >= j.tasks {
			return
		}
		j.do(int(i))
		if j.left.Add(-1) == 0 && !j.waiting.CompareAndSwap(0, 2) {
			p.done <- struct{}{}
		}
	}
}

// do runs one task and keeps its panic.
func (j *job) do(i int) {
	defer func() {
		if v := recover(); v != nil {
			j.failure.CompareAndSwap(nil, &failure{fmt.Sprintf("cpu: task %d: %v", i, v)})
		}
	}()
	j.f(i)
}

// wait returns when every task is done.
func (j *job) wait(p *Pool) {
	spin(func() bool { return j.left.Load() == 0 })
	if j.waiting.CompareAndSwap(0, 1) {
		<-p.done
	}
}
