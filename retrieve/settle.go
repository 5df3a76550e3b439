package retrieve

import (
	"strconv"
	"strings"
)

// The shares of a sentence's content words, by weight, that a passage must
// hold in one sentence or two neighbours. TestShares measures what they do.
const (
	keptShare    = 0.35 // for a marker that the reader wrote to stay
	matchedShare = 0.6  // for a marker that the reader did not write
)

// settle ends the sentence: its markers are chosen, what waits is shown.
func (c *Citer) settle() {
	d := c.draft
	c.draft = newDraft()
	if len(d.words) == 0 && len(d.held) == 0 {
		return
	}
	origin, supports := c.choose(&d)
	c.show(&d, origin, supports)
}

// choose replaces the markers of a sentence by those that its words justify,
// and returns where they come from and what backs the sentence.
func (c *Citer) choose(d *draft) (origin string, supports []support) {
	claim := d.claim()
	if !d.marked && !c.citable(d, claim) {
		return "", nil
	}
	supports = c.evidence.supports(claim)
	if d.keep(supports) {
		return FromModel, supports
	}
	if best := strongest(supports); best >= 0 && supports[best].share >= matchedShare {
		d.cite(best + 1)
	}
	return Matched, supports
}

// citable tells whether a sentence without a marker may be given one.
func (c *Citer) citable(d *draft, claim string) bool {
	heading, cut := c.lead == '#' || c.lead == '|', d.room() == 0
	if d.asks || heading || cut || strings.HasSuffix(strings.TrimRight(claim, " *_"), ":") {
		return false
	}
	words := terms(claim)
	// One word without a full stop may be the beginning of anything; a number is an answer.
	return len(words) > 1 || len(words) == 1 && (d.ended || isNumber(words[0]))
}

func strongest(supports []support) int {
	best := -1
	for i, s := range supports {
		if s.share > 0 && (best < 0 || s.share > supports[best].share) {
			best = i
		}
	}
	return best
}

// keep leaves only the markers, each once, whose passages back the sentence,
// and tells whether there are any.
func (d *draft) keep(supports []support) bool {
	kept := map[int]bool{}
	for i, p := range d.held {
		if p.numbers == nil {
			continue
		}
		numbers := []int{} // not nil: still a marker, perhaps an empty one
		for _, n := range p.numbers {
			if n >= 1 && n <= len(supports) && supports[n-1].share >= keptShare && !kept[n] {
				kept[n] = true
				numbers = append(numbers, n)
			}
		}
		d.held[i].numbers = numbers
	}
	return len(kept) > 0
}

// cite sets one marker: where the reader had the first, or else before the
// final punctuation.
func (d *draft) cite(n int) {
	at := len(d.held)
	for i, p := range d.held {
		if p.numbers != nil {
			d.held[i].numbers = []int{n}
			return
		}
		if p.final {
			at = i
		}
	}
	d.held = append(d.held[:at:at], append([]piece{{text: " ", numbers: []int{n}}}, d.held[at:]...)...)
}

// show writes what waited, and records the citations.
func (c *Citer) show(d *draft, origin string, supports []support) {
	var markers []int
	end, ended, removed := c.at(), false, false
	for _, p := range d.held {
		text := p.text
		if p.numbers != nil {
			if removed = len(p.numbers) == 0; removed {
				continue
			}
			markers = append(markers, p.numbers...)
			for _, n := range p.numbers {
				text += "[" + strconv.Itoa(n) + "]"
			}
		}
		if removed && d.start < 0 {
			text = strings.TrimLeft(text, " \t") // the marker was the first thing in the line
		}
		content := strings.TrimLeft(text, " \t\n")
		if d.start < 0 && content != "" {
			d.start = c.at() + len(text) - len(content)
		}
		c.shown.WriteString(text)
		if content != "" && !ended {
			end = c.at()
		}
		ended = ended || p.final
	}
	for _, n := range markers {
		passage, quote := c.evidence.passages[n-1], supports[n-1].quote
		c.cites = append(c.cites, Citation{
			Marker: n, PassageID: passage.ID, Start: d.start, End: end,
			QuoteStart: passage.Start + quote.start, QuoteEnd: passage.Start + quote.end, Quote: passage.Text[quote.start:quote.end], Origin: origin,
		})
	}
}
