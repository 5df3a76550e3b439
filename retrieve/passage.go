// Package retrieve turns a question into passages and their citations: one
// hybrid search in Postgres, packing into a token budget, the prompt for the
// reader, the honest refusal, and the check of every citation that the answer
// shows. Only Searcher touches the database; everything else is pure.
package retrieve

// Passage is a place in a document, as a search found it: a chunk and what is around it in its section, with the
// ID, the score and the ranks of the chunk.
type Passage struct {
	ID          int64    `json:"id"`
	DocumentID  string   `json:"document_id"`
	Document    Document `json:"document"`
	Text        string   `json:"text"`
	Start       int      `json:"start"` // byte offsets into the document's extracted text
	End         int      `json:"end"`
	FoundStart  int      `json:"found_start"` // of the chunk that was found, within them
	FoundEnd    int      `json:"found_end"`
	Page        *int     `json:"page"` // nil for formats without pages
	HeadingPath []string `json:"heading_path"`
	Tokens      int      `json:"tokens"`     // of Text, by the decoder's tokenizer
	Score       float64  `json:"score"`      // the cosine (see common), up to 0.15 or 0.2 for the words, and 0.3 of a second embedder's cosine; a probability where a cross-encoder gave it
	Similarity  float64  `json:"similarity"` // cosine to the question; 0 in lexical mode, which embeds nothing
	AllTerms    bool     `json:"all_terms"`  // every word of the question, stop words apart, is in the passage
	Ranks       Ranks    `json:"ranks"`

	ordinal, last int       // the chunks of the document that it is made of
	vector        []float32 // of the chunk that was found
}

// Document names where a passage stands.
type Document struct {
	Name   string `json:"name"`
	Source string `json:"source"`
}

// Ranks are a passage's places in the two candidate lists, from 1; 0 means
// that it is not in that list.
type Ranks struct {
	Vector  int `json:"vector"`
	Lexical int `json:"lexical"`
}
