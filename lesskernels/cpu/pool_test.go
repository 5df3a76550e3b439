package cpu

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPoolRunsEveryTaskOnce covers workers that spin, that are parked, and
// more workers than tasks.
func TestPoolRunsEveryTaskOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 8} {
		p := NewPool(threads)
		if p.Threads() != threads {
			t.Errorf("Threads() = %d, want %d", p.Threads(), threads)
		}
		for _, tasks := range []int{0, 1, 2, 5, 100, 1000} {
			if tasks == 5 {
				time.Sleep(5 * time.Millisecond) // lets the workers park
			}
			counts := make([]atomic.Int32, tasks)
			p.Run(tasks, func(i int) { counts[i].Add(1) })
			p.Ranges(tasks, func(from, to, _ int) {
				for i := from; i < to; i++ {
					counts[i].Add(1)
				}
			})
			on := make([]atomic.Int32, threads)
			p.RunOn(tasks, func(i, thread int) {
				if on[thread].Add(1) != 1 {
					t.Errorf("threads %d: two tasks at once on thread %d", threads, thread)
				}
				counts[i].Add(1)
				on[thread].Add(-1)
			})
			for i := range counts {
				if n := counts[i].Load(); n != 3 {
					t.Fatalf("threads %d: task %d of %d ran %d times, want once in each of Run, Ranges and RunOn", threads, i, tasks, n)
				}
			}
		}
		p.Close()
	}
}

// TestPoolNestedAndConcurrent runs the pool from its own tasks and from
// several goroutines at once.
func TestPoolNestedAndConcurrent(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	var total atomic.Int64
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 50 {
				p.Run(5, func(int) {
					p.Run(3, func(int) { total.Add(1) })
				})
			}
		})
	}
	callers.Wait()
	if n := total.Load(); n != 4*50*5*3 {
		t.Errorf("%d tasks ran, want %d", n, 4*50*5*3)
	}
}

// A thread that is held up loses the rest of its share to the other, whichever it is.
func TestPoolSharesWhatIsLeft(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	const tasks = 64
	held := make(chan struct{})
	var ran atomic.Int32
	p.Run(tasks, func(i int) {
		if i == 0 {
			<-held // its share has 31 more
		} else if ran.Add(1) == tasks-1 {
			close(held)
		}
	})
	if n := ran.Load(); n != tasks-1 {
		t.Errorf("%d tasks ran beside the one that was held, want %d", n, tasks-1)
	}
}

// Shares are taken from both ends until nothing is left, in parts that get smaller.
func TestShare(t *testing.T) {
	var s share
	s.rest.Store(10<<32 | 30)
	var taken [][2]int
	for i := 0; ; i++ {
		from, to := s.take(i%2 == 1, true)
		if from == to {
			break
		}
		taken = append(taken, [2]int{from, to})
	}
	want := [][2]int{{10, 20}, {25, 30}, {20, 22}, {24, 25}, {22, 23}, {23, 24}}
	if !slices.Equal(taken, want) {
		t.Errorf("took %v, want %v", taken, want)
	}
	s.rest.Store(3<<32 | 5)
	if from, to := s.take(true, false); from != 4 || to != 5 {
		t.Errorf("took [%d, %d) from the back, want the last task", from, to)
	}
}

// TestPoolPanic checks that a panic reaches the caller after the other tasks
// have run, and that the pool works on.
func TestPoolPanic(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	var ran atomic.Int32
	message := func() (v any) {
		defer func() { v = recover() }()
		p.Run(10, func(i int) {
			ran.Add(1)
			if i == 3 {
				panic("no such row")
			}
		})
		return nil
	}()
	if s, _ := message.(string); !strings.Contains(s, "no such row") {
		t.Errorf("recovered %v, want the task's panic", message)
	}
	func() {
		defer func() {
			if v := recover(); v != "cpu: task 0: no such panel" {
				t.Errorf("recovered %v, want the panic of a range", v)
			}
		}()
		p.Ranges(1000, func(from, _, _ int) {
			if from == 0 {
				panic("no such panel")
			}
		})
	}()
	p.Run(10, func(int) { ran.Add(1) })
	if ran.Load() != 20 {
		t.Errorf("%d tasks ran, want 20", ran.Load())
	}
}

// TestPoolAfterClose checks that a closed pool still does the work.
func TestPoolAfterClose(t *testing.T) {
	p := NewPool(2)
	p.Close()
	n := 0
	p.Run(7, func(int) { n++ })
	if n != 7 {
		t.Errorf("%d tasks ran, want 7", n)
	}
}
