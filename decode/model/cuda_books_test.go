package model

import (
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/decode/cache"
)

// The slots hold after every block what the policy of package cache keeps, and every token that leaves
// is told once.
func TestBooks(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 250 {
		spec, err := cache.ParseSpec([]string{cache.Sinks, cache.H2O, cache.TOVA, cache.Streaming, cache.BUZZ, cache.Cascade, cache.Elastic, cache.CORM}[i%8])
		keep, interval := 8+random.IntN(20), 1+random.IntN(6)
		if i >= 240 {
			spec, err = cache.ParseSpec([]string{"sinks+kivi4", "h2o+kivi4", "tova+kivi2", "corm+kivi2", "full+kivi4"}[i%5])
			keep += 200 + 100*(i%3)
		}
		if err != nil {
			t.Fatal(err)
		}
		policy := spec.Policy
		plan, err := cache.NewPlan(spec, cache.Budget{Tokens: keep}, cache.Shape{Layers: 1, KVHeads: 2, HeadDim: 2, Group: 1, Context: 1000, Interval: interval})
		if err != nil {
			t.Fatal(err)
		}
		want, err := cache.NewSequence(plan, cache.Handlers{Turn: func(_, _ []uint16, _ int) {}}, &cache.Scratch{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := newBooks(plan, plan.Ledger())
		if err != nil {
			t.Fatal(err)
		}
		pace, err := cache.NewSequence(plan.Pace(), cache.Handlers{Turn: func(_, _ []uint16, _ int) {}, Settle: func(_, _ int, _, _ []uint16, _ []int32) uint32 { return 0 }}, &cache.Scratch{})
		if err != nil {
			t.Fatal(err)
		}
		w := &shelves{t: t, books: got, pace: pace, slots: make([]map[int]int32, len(got.cuts)), left: make([]map[int32]bool, len(got.cuts)), groups: make([]map[int][]int32, len(got.cuts)), stands: make([]map[int32]int32, len(got.cuts))}
		if one := policy == cache.Sinks || policy == cache.Streaming; one != (len(got.cuts) == 1) {
			t.Fatalf("%s: books of %d KV heads", policy, len(got.cuts))
		}
		for head := range w.slots {
			w.slots[head], w.left[head], w.stands[head], w.groups[head] = map[int]int32{}, map[int32]bool{}, map[int32]int32{}, map[int][]int32{}
		}
		until := 100
		if policy == cache.CORM {
			until = 400 // more than its window
		}
		switch {
		case policy == cache.Full:
			until = keep
		case spec.Packs():
			until = keep + 200
		}
		for position := 0; position < until; {
			n := min(1+random.IntN(keep+10), until-position)
			if spec.Packs() {
				n = min(1+random.IntN(60), until-position)
			}
			w.position = position
			w.feed(want, n, plan.Slots[0], func(slots int) []float32 {
				x := make([]float32, slots)
				for i := range x {
					if x[i] = random.Float32(); policy == cache.CORM { // a step
						x[i] = float32(random.IntN(position + 1))
					}
				}
				return x
			})
			position += n
			for head := range got.cuts {
				held := got.Positions(0, head)
				if !slices.Equal(held, want.Positions(0, head)) {
					t.Fatalf("%s, keep %d, interval %d: %v, want %v", policy, keep, interval, held, want.Positions(0, head))
				}
				k, v := got.Segment(0, head)
				notes := got.Settled(0, head)
				front := 0
				for front < len(k) && len(notes) > 0 && front < cache.SinkTokens && held[front] < cache.SinkTokens {
					front++
				}
				for i := range len(notes) / 2 {
					number, _, _ := where(joined(notes[2*i], notes[2*i+1])).group()
					first := front + i*cache.GroupTokens
					if number >= len(notes)/2 || !slices.Equal(w.groups[head][number], held[first:first+cache.GroupTokens]) {
						t.Fatalf("%s: group %d of %d holds %v, want %v", spec, number, len(notes)/2, w.groups[head][number], held[first:first+cache.GroupTokens])
					}
				}
				for i, p := range slices.Concat(held[:front], held[front+len(notes)/2*cache.GroupTokens:]) {
					slot := int(joined(k[i], v[i]))
					if where, ok := w.slots[head][slot]; !ok || where != p || slot >= len(k) {
						t.Fatalf("token %d is not in slot %d of %d", p, slot, len(held))
					}
				}
				if plan.Foretold() && pace.Len(0, 0) != len(held) {
					t.Fatalf("%s: %d tokens are held, and %d were foretold", policy, len(held), pace.Len(0, 0))
				}
				for i, p := range held {
					if at := position - len(held) + i; plan.Spec.Unlimited() && w.stands[head][p] != int32(at) {
						t.Fatalf("%s: the key of token %d of %d, which is turned by %d, is to be turned by %d", policy, p, len(held), w.stands[head][p], at)
					}
				}
				if len(w.left[head])+len(held) != position {
					t.Fatalf("%d tokens have left and %d are held of %d", len(w.left[head]), len(held), position)
				}
			}
		}
		pace.Free()
		want.Free()
		got.Free()
	}
}

// shelves are what lies in the slots of KV heads when moves are followed.
type shelves struct {
	t        *testing.T
	books    *books
	pace     *cache.Sequence
	position int
	slots    []map[int]int32
	left     []map[int32]bool
	groups   []map[int][]int32 // what is packed
	stands   []map[int32]int32 // what a token's key is turned by
}

// feed takes a block through the books and through a sequence that they must agree with.
func (w *shelves) feed(want *cache.Sequence, n, room int, columns func(slots int) []float32) {
	b := w.books
	zeros := make([]uint16, n)
	w.pace.MakeRoom(0, n)
	if w.pace.Fits(0, n) {
		w.pace.Append(0, 0, zeros, zeros)
	} else {
		w.pace.Insert(0, zeros, zeros, nil)
	}
	w.pace.Advance(n)
	for head := range w.stands {
		for i := range n {
			w.stands[head][int32(w.position+i)] = int32(w.position + i)
		}
	}
	want.MakeRoom(0, n)
	w.follow(b.makeRoom(0, n))
	fits := want.Fits(0, n)
	block := make([]uint16, 2*2*n)
	if fits {
		for head := range w.slots {
			first := b.Loose(0, head)
			for i := range n {
				w.slots[head][first+i] = int32(w.position + i)
			}
		}
		b.append(0, n)
		for head := range 2 {
			want.Append(0, head, block[:2*n], block[:2*n])
		}
	}
	watched := b.Plan().Watches()
	groups := b.Plan().Groups[0]
	sums, packed := columns(2*room), columns(2*groups*cache.GroupTokens)
	own := columns(2 * n)
	if watched && b.Len(0, 0) > 0 {
		for head := range 2 { // what lies in the slots, in the order of the books
			k, v := b.Segment(0, head)
			got := make([]float32, b.Loose(0, head))
			for i := range got {
				got[i] = sums[head*room+int(joined(k[i], v[i]))]
			}
			want.Observe(0, head, 0, got)
			got = got[:0]
			for notes := b.Settled(0, head); len(notes) > 0; notes = notes[2:] {
				number, _, _ := where(joined(notes[0], notes[1])).group()
				got = append(got, packed[(head*groups+number)*cache.GroupTokens:][:cache.GroupTokens]...)
			}
			if len(got) > 0 {
				want.ObservePacked(0, head, 0, got)
			}
		}
		b.observe(0, room, sums, packed)
	}
	if !fits {
		if !watched {
			own = nil
		}
		want.Insert(0, block, block, slices.Clone(own))
		w.follow(b.insert(0, n, own))
	}
	want.Advance(n)
	b.Advance(n)
}

// follow moves tokens between slots. They move in no order: no target is a source.
func (w *shelves) follow(cuts []cut) {
	for head, cut := range cuts {
		slots := w.slots[head]
		for _, g := range cut.gone {
			n, own := g.at.row()
			if number, token, packed := g.at.group(); packed {
				if w.left[head][g.position] || w.groups[head][number][token] != g.position {
					w.t.Fatalf("%+v leaves, of %v", g, w.groups[head][number])
				}
				w.left[head][g.position] = true
				continue
			}
			if w.books.old != nil && g.stands != w.stands[head][g.position] {
				w.t.Fatalf("token %d leaves as turned by %d, and is turned by %d", g.position, g.stands, w.stands[head][g.position])
			}
			if w.left[head][g.position] || !own && slots[n] != g.position || own && w.position+n != int(g.position) {
				w.t.Fatalf("%+v leaves, of %v", g, slots)
			}
			w.left[head][g.position] = true
		}
		for _, p := range cut.packs {
			var group []int32
			for _, at := range p.of {
				n, own := at.row()
				if own {
					group = append(group, int32(w.position+n))
				} else {
					group = append(group, slots[n])
				}
			}
			for _, m := range cut.shifts {
				if m.from == p.to {
					w.t.Fatalf("%v: a target is a source", cut)
				}
			}
			w.groups[head][p.to] = group
		}
		for _, m := range cut.shifts {
			w.groups[head][m.to] = w.groups[head][m.from]
		}
		for _, m := range cut.moved {
			for _, other := range append(slices.Clone(cut.moved), cut.stored...) {
				if m.from == other.to {
					w.t.Fatalf("%v: a target is a source", cut)
				}
			}
			slots[m.to] = slots[m.from]
		}
		for _, turned := range cut.turned {
			for i, p := range w.books.Positions(0, head)[turned.from:turned.to] {
				if turned.from+i < cache.SinkTokens { // from an exact copy
					w.stands[head][p] = p
				}
				w.stands[head][p] += int32(turned.by)
			}
		}
		for _, m := range cut.stored {
			slots[m.to] = int32(w.position + m.from)
		}
	}
}

// BenchmarkBooks is what it takes the processor to decide what a sequence of 512 slots gives up, in 30 layers of 8 KV heads.
func BenchmarkBooks(b *testing.B) {
	for _, name := range []string{cache.H2O, cache.TOVA, cache.CORM, cache.Cascade, cache.Elastic, "h2o+kivi4"} {
		b.Run(name, func(b *testing.B) {
			spec, err := cache.ParseSpec(name)
			if err != nil {
				b.Fatal(err)
			}
			plan, err := cache.NewPlan(spec, cache.Budget{Tokens: 512}, cache.Shape{Layers: 30, KVHeads: 8, HeadDim: 128, Context: 8192, Group: 4, Interval: 16})
			if err != nil {
				b.Fatal(err)
			}
			books, err := newBooks(plan, plan.Ledger())
			if err != nil {
				b.Fatal(err)
			}
			defer books.Free()
			random, room := rand.New(rand.NewPCG(1, 2)), leastLoose(plan)
			sums, packed := make([]float32, 8*room), make([]float32, 8*plan.Groups[0]*cache.GroupTokens)
			for i := range sums {
				sums[i] = random.Float32()
			}
			decide := func() {
				for layer := range 30 {
					books.observe(layer, room, sums, packed)
					books.makeRoom(layer, 1)
				}
			}
			feed := func() {
				for layer := range 30 {
					books.append(layer, 1)
				}
				books.Advance(1)
			}
			for ; books.Position() < 1024; feed() {
				if books.Changes(0, 1) {
					decide()
				}
			}
			for b.Loop() {
				b.StopTimer()
				for !books.Changes(0, 1) {
					feed()
				}
				b.StartTimer()
				decide()
			}
		})
	}
}
