package ingest

import (
	"time"
)

// State is where a document stands. It moves forward only:
// queued → extracting → chunking → embedding → ready or failed.
// Retry and a new version of the content put it back to queued.
type State string

// The states of a document, as stored in documents.state.
const (
	Queued     State = "queued"
	Extracting State = "extracting"
	Chunking   State = "chunking"
	Embedding  State = "embedding"
	Ready      State = "ready"
	Failed     State = "failed"
)

// Valid reports whether s is one of the six states.
func (s State) Valid() bool {
	switch s {
	case Queued, Extracting, Chunking, Embedding, Ready, Failed:
		return true
	}
	return false
}

// Done reports whether a document in this state waits for nothing more.
func (s State) Done() bool { return s == Ready || s == Failed }

// File is one document as it is handed in.
type File struct {
	Name      string         // unique in its collection: the same name with other content is a new version
	Source    string         // where it came from: a path or a URL; shown with citations, never opened
	MediaType string         // as claimed by the sender; "" lets the content decide
	Metadata  map[string]any // a JSON object, for filters
	Content   []byte
}

// Document is one document as it is listed.
type Document struct {
	ID         string         `json:"id"`
	Collection string         `json:"collection"`
	Name       string         `json:"name"`
	Source     string         `json:"source"`
	Also       []string       `json:"also"` // other names in the collection with the same content
	MediaType  string         `json:"media_type"`
	Metadata   map[string]any `json:"metadata"`
	State      State          `json:"state"`
	Stage      string         `json:"stage"` // the stage it is in, or the one that failed
	Error      string         `json:"error"` // the reason, when State is failed
	Chunks     int            `json:"chunks"`
	Bytes      int64          `json:"bytes"`
	Done       float64        `json:"done"` // share of its passages embedded so far, 0…1
	CreatedAt  time.Time      `json:"created_at"`
	UpdatedAt  time.Time      `json:"updated_at"`
}

// Submission is what became of the files of one Submit, in their order.
type Submission struct {
	IngestionID string      `json:"ingestion_id"`
	Documents   []Submitted `json:"documents"`
}

// Submitted is one file of a submission. A duplicate names the document that already holds the same content.
type Submitted struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	State     State  `json:"state"`
	Duplicate bool   `json:"duplicate"`
}

// Progress is how far one submission has come. Total = Ready + Failed + Pending;
// documents deleted since are counted no more.
type Progress struct {
	ID        string
	Total     int
	Ready     int
	Failed    int
	Pending   int
	Ahead     int            // documents of others that were queued before the first pending one, and wait too
	ETA       *time.Duration // nil while no rate is known; 0 when nothing is pending
	Documents []Document
}

// Filter selects documents for a listing. The zero value lists all of them.
type Filter struct {
	Collection string
	State      State
	Cursor     string // as returned by the page before
	Limit      int    // 1…1000; 0 means 100
}

// Collection is a set of documents embedded by one model.
type Collection struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Embedder   string    `json:"embedder"`
	Dimensions int       `json:"dimensions"`
	Documents  int       `json:"documents"`
	Chunks     int       `json:"chunks"`
	Settings   Settings  `json:"settings"`
	CreatedAt  time.Time `json:"created_at"`
}
