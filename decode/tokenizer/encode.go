package tokenizer

// Encode turns text into ids. Names of special tokens are ordinary text here.
// Any bytes are accepted; see Decode for those that the vocabulary lacks.
func (t *Tokenizer) Encode(text string) []int32 {
	return t.appendText(make([]int32, 0, len(text)/4+1), text)
}

// Count is len(Encode(text)).
func (t *Tokenizer) Count(text string) int { return len(t.Encode(text)) }

// EncodeSpecial is Encode, but the name of a control or user-defined token
// becomes that token, the leftmost first and of several the longest. A name
// that touches one of the literal spans, given as byte offsets [start, end) in
// any order, stays text.
func (t *Tokenizer) EncodeSpecial(text string, literal [][2]int) []int32 {
	ids := make([]int32, 0, len(text)/4+1)
	spans := newSpans(literal)
	done := 0
	for i := 0; i < len(text); {
		id, length := t.specials.match(text, i, spans)
		if length == 0 {
			i++
			continue
		}
		ids = t.appendText(ids, text[done:i])
		ids = append(ids, id)
		i += length
		done = i
	}
	return t.appendText(ids, text[done:])
}

// appendText splits text into words and appends the tokens of each.
func (t *Tokenizer) appendText(ids []int32, text string) []int32 {
	m := mergers.Get().(*merger)
	defer mergers.Put(m)
	t.split(text, func(word string) {
		ids = t.appendWord(ids, word, m)
	})
	return ids
}

// appendWord appends the tokens of one word.
func (t *Tokenizer) appendWord(ids []int32, word string, m *merger) []int32 {
	if id, ok := t.whole[word]; ok {
		return append(ids, id)
	}
	if known, ok := t.cache.get(word); ok {
		return append(ids, known...)
	}
	start := len(ids)
	ids = m.merge(ids, &t.merges, word)
	t.cache.put(word, ids[start:])
	return ids
}
