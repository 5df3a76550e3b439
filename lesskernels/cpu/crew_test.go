package cpu

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lessrag/lesskernels"
)

// TestCrew checks that every unit of every stage is done once, after all units of the
// stage before, by threads that are ready, and that Runs go on in between.
func TestCrew(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 8} {
		p := NewPool(threads)
		for again := range 4 {
			const stages = 300
			var done [stages]atomic.Int32
			size := func(stage int) int { return stage * 37 % 101 }
			p.Crew(func(c *Crew) {
				for stage := range stages {
					ready, before := 0, stage-1
					do := func(from, to int) {
						if stage > 0 && int(done[before].Load()) != size(before) {
							t.Errorf("stage %d began after %d of %d units", stage, done[before].Load(), size(before))
						}
						if stage%3 > 0 && ready != 1 {
							t.Errorf("thread %d got ready %d times", c.Thread, ready)
						}
						if share := (size(stage) + threads - 1) / threads; stage%3 == 0 && threads > 1 && to-from > max(1, share*3/4) {
							t.Errorf("%d of a share of %d uneven units were taken at once", to-from, share)
						}
						done[stage].Add(int32(to - from))
					}
					if stage%3 > 0 {
						c.Stage(size(stage), func() { ready++ }, do)
					} else {
						c.Uneven(size(stage), do)
					}
				}
			})
			for stage := range done {
				if n := int(done[stage].Load()); n != size(stage) {
					t.Fatalf("%d threads, program %d: stage %d did %d units of %d", threads, again, stage, n, size(stage))
				}
			}
			var ran atomic.Int32
			p.Run(10, func(int) { ran.Add(1) })
			if ran.Load() != 10 {
				t.Fatalf("%d tasks ran after a program, want 10", ran.Load())
			}
		}
		p.Close()
	}
}

// A program ends without a thread that is held up between its stages, which finds them
// done later and leaves those of the next program alone.
func TestCrewLate(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	came, let := make(chan struct{}), make(chan struct{})
	var done [2]atomic.Int32
	program := func(round int, held bool) {
		p.Crew(func(c *Crew) {
			if c.Thread == 1 && held {
				close(came)
				<-let
			} else if held {
				<-came
			}
			for range 50 {
				c.Stage(8, func() {}, func(from, to int) { done[round].Add(int32(to - from)) })
			}
		})
	}
	program(0, true)
	if n := done[0].Load(); n != 400 {
		t.Errorf("%d units without the one that is held up, want 400", n)
	}
	go close(let)
	program(1, false)
	if a, b := done[0].Load(), done[1].Load(); a != 400 || b != 400 {
		t.Errorf("%d and %d units in the end, want 400 of each program", a, b)
	}
}

// A share belongs to the latest stage that has opened it, across the end of what it tells
// stages apart by.
func TestCrewOpen(t *testing.T) {
	const last = 1<<stageBits - 1
	var s atomic.Uint64
	s.Store((last - 2) << (2 * unitBits))
	for _, test := range []struct {
		stage    uint64
		from, to int // taken
	}{{last - 1, 10, 17}, {last, 10, 17}, {last - 1, 0, 0}, {last, 17, 19}, {last + 2, 10, 17}, {last, 0, 0}, {last + 2, 17, 19}} {
		c := Crew{stage: test.stage}
		c.open(&s, 10, 20)
		if from, to := c.take(&s, false); from != test.from || to != test.to {
			t.Errorf("stage %d took [%d, %d), want [%d, %d)", test.stage, from, to, test.from, test.to)
		}
	}
	c := Crew{stage: last + 3, whole: true}
	c.open(&s, 10, 20)
	if from, to := c.take(&s, true); from != 15 || to != 20 {
		t.Errorf("from another's share [%d, %d) was taken, want half", from, to)
	}
	if from, to := c.take(&s, false); from != 10 || to != 15 {
		t.Errorf("of its own share a thread took [%d, %d), want all that was left", from, to)
	}
}

// A thread that waits long sleeps, and wakes.
func TestCrewSleeps(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	for range 3 {
		order := make([]int, 0, 2)
		p.Crew(func(c *Crew) {
			c.Stage(1, func() {}, func(int, int) {
				time.Sleep(5 * time.Millisecond)
				order = append(order, 1)
			})
			c.Stage(1, func() {}, func(int, int) { order = append(order, 2) })
		})
		if !slices.Equal(order, []int{1, 2}) {
			t.Fatalf("stages were done in the order %v", order)
		}
	}
}

// A stage's panic reaches the caller; a program inside a task runs alone.
func TestCrewPanic(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	message := func() (v any) {
		defer func() { v = recover() }()
		p.Crew(func(c *Crew) {
			c.Stage(10, func() {}, func(from, to int) {
				if from <= 3 && 3 < to {
					panic("no such row")
				}
			})
			c.Stage(10, func() {}, func(int, int) {})
		})
		return nil
	}()
	if s, _ := message.(string); !strings.HasPrefix(s, "cpu: task ") || !strings.HasSuffix(s, ": no such row") {
		t.Errorf("recovered %v, want the stage's panic", message)
	}
	var units atomic.Int32
	p.Run(2, func(int) {
		p.Crew(func(c *Crew) { c.Stage(5, func() {}, func(from, to int) { units.Add(int32(to - from)) }) })
	})
	if n := units.Load(); n != 10 {
		t.Errorf("programs inside tasks did %d units, want 10", n)
	}
}

// TestCrewProducts compares products and a chain in a program with MulAll, bit by bit.
func TestCrewProducts(t *testing.T) {
	const cols, hidden, last = 96, 224, 72
	for _, isa := range isas() {
		for _, threads := range []int{1, 2, 5} {
			for _, n := range []int{1, 3, 8} {
				t.Run(fmt.Sprintf("%v/threads=%d/n=%d", isa, threads, n), func(t *testing.T) {
					pool := NewPool(threads)
					defer pool.Close()
					rng := rand.New(rand.NewPCG(3, uint64(n)))
					pack := func(rows, cols int) *Matrix {
						m, err := Pack(lesskernels.Q4_1, randomWeights(rng, lesskernels.Q4_1, rows*cols), rows, cols, isa)
						if err != nil {
							t.Fatal(err)
						}
						return m
					}
					gate, up, down, q := pack(hidden, cols), pack(hidden, cols), pack(last, hidden), pack(last, cols)
					x := randomFloats(rng, n*cols)
					run := func(crew bool) (y []float32) {
						var in, next Input
						in.Set(x, n, cols)
						a, b := make([]float32, n*hidden), make([]float32, n*hidden)
						y = make([]float32, 2*n*last)
						next.SetColumns(a, n, hidden, func(row, from, to int) {
							for i := row*hidden + from; i < row*hidden+to; i++ {
								a[i] *= b[i]
							}
						})
						first := Products{{Matrix: q, Dst: y}, {Matrix: q, Dst: y[n*last:], Pairs: true}}
						chain := Chain{Products: Products{{Matrix: gate, Dst: a}, {Matrix: up, Dst: b}}, Next: &next, M: down}
						second := Products{{Matrix: down, Dst: y, Add: true}}
						if !chain.Chains() {
							t.Fatal("cannot be chained")
						}
						if !crew {
							MulAll(pool, &in, first...)
							MulAll(pool, &in, chain.Products...)
							MulAll(pool, &next, second...)
							return y
						}
						chain.Begin()
						pool.Crew(func(c *Crew) {
							var own Input
							own.Set(x, n, cols)
							c.Expect(chain.Products[:1], n, 0)
							c.Stage(first.Units(n), func() { first.Ready(&own) }, func(from, to int) { first.Do(&own, from, to) })
							c.Expect(second, n, 7)
							c.Stage(chain.Units(), func() { chain.Ready(&own) }, func(from, to int) { chain.Do(&own, from, to) })
							c.Stage(second.Units(n), func() {}, func(from, to int) { second.Do(&next, from, to) })
						})
						return y
					}
					if got, want := run(true), run(false); !slices.Equal(got, want) {
						t.Errorf("a program gives other products")
					}
				})
			}
		}
	}
}

// Weights are expected from the first group of panels on that begins at a unit or later.
func TestProductsFrom(t *testing.T) {
	pack := func(rows int) *Matrix {
		m, err := Pack(lesskernels.Q4_1, make([]byte, rows*20), rows, blockLen, Portable)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	products := Products{{Matrix: pack(96), Together: 32}, {Matrix: pack(80), Pairs: true}}
	for unit := -5; unit < products.Units(1)+5; unit++ {
		var want []byte
		begins := 0
		for _, p := range products {
			for panel := 0; panel < p.Matrix.panels(); panel += p.group() {
				if begins >= unit && want == nil {
					want = p.Matrix.data[panel*p.Matrix.panel:]
				}
				begins += p.unitsOfGroup(1)
			}
		}
		if got := products.from(1, unit); len(got) != len(want) || len(got) > 0 && &got[0] != &want[0] {
			t.Errorf("unit %d: %d bytes are left, want %d", unit, len(got), len(want))
		}
	}
}
