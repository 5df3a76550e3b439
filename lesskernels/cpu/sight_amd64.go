package cpu

import "slices"

// sight is what each lane of each lane group sees: the slots below its number.
type sight struct {
	visible     []int32 // [groups, lanes], 0 beyond the last query
	most, least []int32 // [groups] of the lanes
}

// sight spreads visible [nq] over queries [nq, group] in lanes.
func (k *attendKernels) sight(s *Scratch, visible []int32, group, queries int) sight {
	groups := (queries + k.lanes - 1) / k.lanes
	v := s.newSight(groups, k.lanes)
	lane := 0
	for _, n := range visible {
		for range group {
			v.visible[lane] = n
			lane++
		}
	}
	v.bound(k.lanes)
	return v
}

// bound sets the most and the least of every lane group.
func (v sight) bound(lanes int) {
	for i := range v.most {
		group := v.visible[i*lanes:][:lanes]
		v.most[i], v.least[i] = slices.Max(group), slices.Min(group)
	}
}

// newSight returns one whose lanes see nothing.
func (s *Scratch) newSight(groups, lanes int) sight {
	n := groups * (lanes + 2)
	if cap(s.lanes) < n {
		s.lanes = make([]int32, n+n/2)
	}
	words := s.lanes[:n]
	clear(words)
	return sight{words[:groups*lanes], words[groups*lanes:][:groups], words[groups*(lanes+1):]}
}
