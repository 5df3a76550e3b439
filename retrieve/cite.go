package retrieve

// The origins of a citation.
const (
	FromModel = "model"   // the reader wrote the marker, and the passage supports the sentence
	Matched   = "matched" // the marker was set where the passage's words support the sentence
)

// Citation ties a sentence of the answer to a passage.
type Citation struct {
	Marker     int    `json:"marker"` // the passage's place in the prompt, from 1
	PassageID  int64  `json:"passage_id"`
	Start      int    `json:"start"` // the cited sentence: byte offsets in the answer as shown
	End        int    `json:"end"`
	QuoteStart int    `json:"quote_start"` // its best support: byte offsets in the document's text
	QuoteEnd   int    `json:"quote_end"`
	Origin     string `json:"origin"` // FromModel or Matched
}

// Citer filters an answer as it streams: what Push and Flush return,
// concatenated, is the answer to show, however the text was cut into pushes.
// It is a pure value for one answer, not for concurrent use.
type Citer struct {
	passages []Passage
	sent     int
}

// NewCiter returns a Citer for an answer read from passages, numbered from 1
// as Prompt numbers them.
func NewCiter(passages []Passage) *Citer { return &Citer{passages: passages} }

// Push takes the next piece of the reader's text and returns what can be
// shown by now, with the citations that have been settled.
func (c *Citer) Push(text string) (string, []Citation) {
	c.sent += len(text)
	return text, nil
}

// Flush ends the answer and returns what was held back.
func (c *Citer) Flush() (string, []Citation) { return "", nil }
