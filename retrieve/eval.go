package retrieve

import (
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Expected is one question of an evaluation and what is known of its answer.
type Expected struct {
	Question string   `json:"question"`
	Answers  []string `json:"answers"`           // texts of which an answer must contain one; may be empty
	Source   string   `json:"source"`            // the end of the document's path, or all of it
	Section  string   `json:"section,omitempty"` // the text that answers, where not the whole document does
}

// quotedWords is the length of the word runs by which a passage is told to
// come from a section, and sectionShare how many of them must be there, as a
// share of those of the shorter text.
const (
	quotedWords  = 5
	sectionShare = 0.3
)

// Holds tells whether a passage is what should be found: from the source, and
// overlapping the section where one is given.
func (e Expected) Holds(p Passage) bool {
	if !fromSource(p.Document, e.Source) {
		return false
	}
	if e.Section == "" {
		return true
	}
	section, passage := runs(e.Section), runs(p.Text)
	if len(section) == 0 || len(passage) == 0 {
		return strings.Contains(strings.Join(words(p.Text), " "), strings.Join(words(e.Section), " "))
	}
	common := 0
	for run := range passage {
		if section[run] {
			common++
		}
	}
	return float64(common) >= sectionShare*float64(min(len(section), len(passage)))
}

// fromSource compares whole components of a path, from its end.
func fromSource(d Document, source string) bool {
	source = path.Clean("/" + source)
	return strings.HasSuffix(path.Clean("/"+d.Name), source) || strings.HasSuffix(path.Clean("/"+d.Source), source)
}

// words are a text's words in lower case.
func words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), notWord)
}

// runs are the different runs of quotedWords words of a text.
func runs(text string) map[string]bool {
	all, w := map[string]bool{}, words(text)
	for i := range len(w) - quotedWords + 1 {
		all[strings.Join(w[i:i+quotedWords], " ")] = true
	}
	return all
}

// Rank is the place, from 1, of the first passage that should be found; 0
// where none is.
func (e Expected) Rank(passages []Passage) int {
	return slices.IndexFunc(passages, e.Holds) + 1
}

// RetrievalScores are means over questions that each have one right section;
// its passages count as one, at the place of the first.
type RetrievalScores struct {
	Questions int     `json:"questions"`
	Recall1   float64 `json:"recall_at_1"`
	Recall5   float64 `json:"recall_at_5"`
	Recall10  float64 `json:"recall_at_10"`
	MRR       float64 `json:"mrr"`        // of the first 10: mean reciprocal rank
	NDCG10    float64 `json:"ndcg_at_10"` // binary gain, discount 1/log2(rank+1)
}

// ScoreRanks takes the rank of every question's section, 0 for not found.
func ScoreRanks(ranks []int) RetrievalScores {
	s := RetrievalScores{Questions: len(ranks)}
	if len(ranks) == 0 {
		return s
	}
	for _, r := range ranks {
		if r < 1 || r > 10 {
			continue
		}
		s.Recall10++
		s.MRR += 1 / float64(r)
		s.NDCG10 += 1 / math.Log2(float64(r)+1)
		if r <= 5 {
			s.Recall5++
		}
		if r == 1 {
			s.Recall1++
		}
	}
	for _, sum := range []*float64{&s.Recall1, &s.Recall5, &s.Recall10, &s.MRR, &s.NDCG10} {
		*sum /= float64(len(ranks))
	}
	return s
}

// ContainsMatch tells whether an answer contains one of the expected texts,
// word for word, whatever their case and punctuation.
func ContainsMatch(answer string, expected []string) bool {
	said := " " + strings.Join(plainWords(answer), " ") + " "
	return slices.ContainsFunc(expected, func(text string) bool {
		w := plainWords(text)
		return len(w) > 0 && strings.Contains(said, " "+strings.Join(w, " ")+" ")
	})
}

// TokenF1 is the harmonic mean of precision and recall of an answer's words
// against the expected text that it fits best, as SQuAD counts them
// (arXiv 1606.05250): without case, punctuation and articles.
func TokenF1(answer string, expected []string) float64 {
	best := 0.0
	said := plainWords(answer)
	for _, text := range expected {
		left := map[string]int{}
		wanted := plainWords(text)
		for _, w := range wanted {
			left[w]++
		}
		common := 0
		for _, w := range said {
			if left[w] > 0 {
				left[w]--
				common++
			}
		}
		if common > 0 {
			best = max(best, 2*float64(common)/float64(len(said)+len(wanted)))
		}
	}
	return best
}

var markerText = regexp.MustCompile(`\[\d+(?:\s*[,;]\s*\d+)*\]`)

// plainWords are the words of an answer as SQuAD compares them: punctuation
// taken out of them, articles left out. Markers of citations do not count.
func plainWords(text string) []string {
	text = markerText.ReplaceAllString(text, " ")
	text = strings.Map(func(r rune) rune {
		if unicode.IsPunct(r) || unicode.IsSymbol(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, text)
	return slices.DeleteFunc(strings.Fields(text), func(w string) bool { return w == "a" || w == "an" || w == "the" })
}
