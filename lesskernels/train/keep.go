package train

import "lessrag/lesskernels/cpu"

// Cut is what a question-aware policy leaves: all tokens before a position
// attend to all before them, then those that are not kept leave at once. The
// rows, from that position on, attend to what is kept and to the tokens since.
func Cut(pool *cpu.Pool, a *Attention, keep []bool, rows []int) *Trace {
	at := len(keep)
	t := &Trace{Order: make([][]int32, a.KVHeads), When: make([][]int32, a.KVHeads), Rows: rows,
		Out: make([]float32, len(rows)*a.Width()), LSE: make([]float32, len(rows)*a.Heads)}
	kept := 0
	for _, k := range keep {
		if k {
			kept++
		}
	}
	pool.Run(a.KVHeads, func(kvHead int) {
		w := newWalker(a, Policy{Name: H2O, Budget: kept + a.Tokens - at}, t, []int{kvHead})
		for token := range a.Tokens {
			if token < at && !keep[token] {
				t.Order[kvHead], t.When[kvHead] = append(t.Order[kvHead], int32(token)), append(t.When[kvHead], int32(at))
				continue
			}
			w.take(token)
			if w.next < len(rows) && rows[w.next] == token {
				w.attend(0, kvHead, token, true)
				w.next++
			}
		}
	})
	return t
}
