package embed

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// WordPiece is BERT's tokenizer: normalise, split at spaces and punctuation,
// then take the longest known piece again and again.
type WordPiece struct {
	vocab         map[string]int32
	pieces        []string // by id; "" for ids that the file does not name
	special       []string // texts that are one token wherever they stand, longest first
	prefix        string   // marks a piece that continues a word: "##"
	longestPiece  int      // bytes
	maxWordRunes  int      // longer words are unknown
	unk, cls, sep int32
	lowercase     bool
	stripAccents  bool
	cleanText     bool
	splitChinese  bool
}

// tokenizerFile is the part of tokenizer.json that concerns a BERT tokenizer.
type tokenizerFile struct {
	AddedTokens []struct {
		ID      int32  `json:"id"`
		Content string `json:"content"`
	} `json:"added_tokens"`
	Normalizer struct {
		Type         string `json:"type"`
		CleanText    bool   `json:"clean_text"`
		Chinese      bool   `json:"handle_chinese_chars"`
		StripAccents *bool  `json:"strip_accents"` // null: as lowercase says
		Lowercase    bool   `json:"lowercase"`
	} `json:"normalizer"`
	PreTokenizer struct {
		Type string `json:"type"`
	} `json:"pre_tokenizer"`
	Model struct {
		Type         string           `json:"type"`
		Unknown      string           `json:"unk_token"`
		Prefix       string           `json:"continuing_subword_prefix"`
		MaxWordRunes int              `json:"max_input_chars_per_word"`
		Vocab        map[string]int32 `json:"vocab"`
	} `json:"model"`
}

// ParseWordPiece reads a tokenizer.json of the BERT kind for a model with
// size embeddings.
func ParseWordPiece(data []byte, size int) (*WordPiece, error) {
	var f tokenizerFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	switch {
	case f.Normalizer.Type != "BertNormalizer":
		return nil, fmt.Errorf("normalizer %q: only BertNormalizer is read", f.Normalizer.Type)
	case f.PreTokenizer.Type != "BertPreTokenizer":
		return nil, fmt.Errorf("pre_tokenizer %q: only BertPreTokenizer is read", f.PreTokenizer.Type)
	case f.Model.Type != "WordPiece":
		return nil, fmt.Errorf("model %q: only WordPiece is read", f.Model.Type)
	case f.Model.MaxWordRunes < 1:
		return nil, fmt.Errorf("max_input_chars_per_word is %d", f.Model.MaxWordRunes)
	case f.Model.Prefix == "":
		return nil, errors.New("continuing_subword_prefix is empty")
	}
	w := &WordPiece{
		vocab:        f.Model.Vocab,
		pieces:       make([]string, size),
		prefix:       f.Model.Prefix,
		maxWordRunes: f.Model.MaxWordRunes,
		lowercase:    f.Normalizer.Lowercase,
		stripAccents: f.Normalizer.Lowercase,
		cleanText:    f.Normalizer.CleanText,
		splitChinese: f.Normalizer.Chinese,
	}
	if f.Normalizer.StripAccents != nil {
		w.stripAccents = *f.Normalizer.StripAccents
	}
	for piece, id := range w.vocab {
		if id < 0 || int(id) >= size {
			return nil, fmt.Errorf("piece %q has id %d, the model has %d embeddings", piece, id, size)
		}
		w.pieces[id] = piece
		w.longestPiece = max(w.longestPiece, len(piece))
	}
	for _, t := range f.AddedTokens {
		if id, ok := w.vocab[t.Content]; !ok || id != t.ID || t.Content == "" {
			return nil, fmt.Errorf("added token %q with id %d is not in the vocabulary", t.Content, t.ID)
		}
		w.special = append(w.special, t.Content)
	}
	slices.SortFunc(w.special, func(a, b string) int { return len(b) - len(a) })
	for _, s := range []struct {
		id   *int32
		text string
	}{{&w.unk, f.Model.Unknown}, {&w.cls, "[CLS]"}, {&w.sep, "[SEP]"}} {
		id, ok := w.vocab[s.text]
		if !ok {
			return nil, fmt.Errorf("token %q is not in the vocabulary", s.text)
		}
		*s.id = id
	}
	return w, nil
}

// Encode returns [CLS], the text's pieces and [SEP], at most limit ids in
// all: what is over is cut from the text's end. limit is at least 2.
func (w *WordPiece) Encode(text string, limit int) []int32 {
	ids := []int32{w.cls}
	for text != "" && len(ids) < limit-1 {
		plain, special := w.cutSpecial(text)
		ids = w.appendWords(ids, plain, limit-1)
		if special != "" {
			ids = append(ids, w.vocab[special])
		}
		text = text[len(plain)+len(special):]
	}
	return append(ids[:min(len(ids), limit-1)], w.sep)
}

// cutSpecial returns the text before the first special token, and that token.
func (w *WordPiece) cutSpecial(text string) (plain, special string) {
	plain = text
	for _, s := range w.special {
		if i := strings.Index(plain, s); i >= 0 {
			plain, special = plain[:i], s
		}
	}
	return plain, special
}

// appendWords appends the pieces of the words of text until there are limit ids.
func (w *WordPiece) appendWords(ids []int32, text string, limit int) []int32 {
	text = w.normalize(text)
	for text != "" && len(ids) < limit {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case unicode.IsSpace(r):
			text = text[n:]
			continue
		case isPunctuation(r):
		default:
			n = strings.IndexFunc(text, func(r rune) bool { return unicode.IsSpace(r) || isPunctuation(r) })
			if n < 0 {
				n = len(text)
			}
		}
		ids = w.appendPieces(ids, text[:n])
		text = text[n:]
	}
	return ids
}

// appendPieces appends one word: its longest known beginning, then the
// longest known continuation, to the end, or the unknown token for it all.
func (w *WordPiece) appendPieces(ids []int32, word string) []int32 {
	if utf8.RuneCountInString(word) > w.maxWordRunes {
		return append(ids, w.unk)
	}
	first := len(ids)
	key := make([]byte, 0, 64)
	for rest := word; rest != ""; {
		key = key[:0]
		if len(rest) < len(word) {
			key = append(key, w.prefix...)
		}
		prefix := len(key)
		key = append(key, rest[:min(len(rest), max(w.longestPiece-prefix, 0))]...)
		id, ok := w.vocab[string(key)]
		for !ok && len(key) > prefix+1 {
			key = key[:len(key)-1]
			id, ok = w.vocab[string(key)]
		}
		if !ok {
			return append(ids[:first], w.unk)
		}
		ids = append(ids, id)
		rest = rest[len(key)-prefix:]
	}
	return ids
}

// normalize is BertNormalizer: control characters go, every space becomes
// one, ideographs stand alone, accents go, upper case becomes lower case.
func (w *WordPiece) normalize(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	for _, r := range text {
		if w.cleanText {
			if r == 0 || r == utf8.RuneError || isControl(r) {
				continue
			}
			if unicode.IsSpace(r) {
				r = ' '
			}
		}
		if w.splitChinese && isIdeograph(r) {
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
			continue
		}
		b.WriteRune(r)
	}
	text = b.String()
	if w.stripAccents {
		text = removeRunes(norm.NFD.String(text), func(r rune) bool { return unicode.Is(unicode.Mn, r) })
	}
	if w.lowercase {
		text = strings.Map(unicode.ToLower, text)
	}
	return text
}

func removeRunes(s string, drop func(rune) bool) string {
	return strings.Map(func(r rune) rune {
		if drop(r) {
			return -1
		}
		return r
	}, s)
}

func isControl(r rune) bool {
	return r != '\t' && r != '\n' && r != '\r' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co)
}

// isPunctuation holds for every ASCII symbol too, as in BERT.
func isPunctuation(r rune) bool {
	return r < utf8.RuneSelf && (unicode.IsPunct(r) || unicode.IsSymbol(r)) || unicode.IsPunct(r)
}

// isIdeograph holds in the CJK blocks that BERT isolates.
func isIdeograph(r rune) bool {
	return r >= 0x4E00 && r <= 0x9FFF ||
		r >= 0x3400 && r <= 0x4DBF ||
		r >= 0x20000 && r <= 0x2A6DF ||
		r >= 0x2A700 && r <= 0x2B73F ||
		r >= 0x2B740 && r <= 0x2B81F ||
		r >= 0x2B920 && r <= 0x2CEAF ||
		r >= 0xF900 && r <= 0xFAFF ||
		r >= 0x2F800 && r <= 0x2FA1F
}
