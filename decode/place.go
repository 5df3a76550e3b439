package decode

import "cmp"

// Place is a device as the choice of one for a request sees it.
type Place struct {
	Lost      bool
	Sequences int   // more that it may run
	Free      int64 // bytes that they may take
	Promised  int64 // bytes of those that run
	Known     int   // first tokens of the request's prompt that it has kept and need not read
}

// Choose is the place where a request starts that takes so many bytes, after a prompt of so many tokens; below 0 if it
// has to wait. It is where half of the prompt or more is known, the most of it; else where the least is promised: what
// all prompts begin with gathers them nowhere. Choose is pure.
func Choose(places []Place, bytes int64, prompt int) int {
	best := -1
	for i, p := range places {
		if !p.takes(bytes) {
			continue
		}
		if best < 0 || p.compare(places[best], prompt) > 0 {
			best = i
		}
	}
	return best
}

// takes tells whether a request of so many bytes can start.
func (p Place) takes(bytes int64) bool { return !p.Lost && p.Sequences > 0 && p.Free >= bytes }

// compare is above 0 where p suits a prompt better than q.
func (p Place) compare(q Place, prompt int) int {
	return cmp.Or(cmp.Compare(p.worth(prompt), q.worth(prompt)), cmp.Compare(q.Promised, p.Promised), cmp.Compare(p.Known, q.Known))
}

// worth is Known where that is half of the prompt or more; less decides only between places that are alike.
func (p Place) worth(prompt int) int {
	if 2*p.Known < prompt {
		return 0
	}
	return p.Known
}
