package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5/pgconn"

	"lessrag/cmd/api/answer"
	"lessrag/decode"
	"lessrag/ingest"
	"lessrag/retrieve"
)

// Problem is an error as RFC 9457 writes it.
type Problem struct {
	Type   string        `json:"type"`
	Title  string        `json:"title"`
	Status int           `json:"status"`
	Detail string        `json:"detail,omitempty"`
	Errors []FieldDetail `json:"errors,omitempty" doc:"one entry for every field that was refused"`

	retryAfter time.Duration
}

// FieldDetail names a field that was refused, as body.limit or path.id.
type FieldDetail struct {
	Location string `json:"location"`
	Message  string `json:"message"`
}

func (p *Problem) Error() string             { return p.Detail }
func (p *Problem) GetStatus() int            { return p.Status }
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders makes Retry-After part of the answer.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	return h
}

// complete fills in what every problem has.
func (p *Problem) complete() *Problem {
	p.Type = cmp.Or(p.Type, "about:blank")
	p.Title = cmp.Or(p.Title, http.StatusText(p.Status))
	return p
}

// writeProblem answers with p outside of huma.
func writeProblem(w http.ResponseWriter, p *Problem) {
	for k, v := range p.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p.complete()) // a reader that has gone misses it
}

// huma writes its own refusals (of fields, bodies and media types) as
// Problems too. It repeats refused values; we don't.
func init() {
	huma.ValidateStrictCasing = true // "Question" is not "question"
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		p := &Problem{Status: status, Detail: message}
		for _, err := range errs {
			if err == nil {
				continue
			}
			d := FieldDetail{Message: err.Error()}
			if e, ok := err.(huma.ErrorDetailer); ok {
				d = FieldDetail{e.ErrorDetail().Location, e.ErrorDetail().Message}
			}
			// strictJSON can say where only inside of its message.
			if at, rest, ok := strings.Cut(d.Message, ": "); ok && d.Location == "body" && strings.HasPrefix(at, "body.") {
				d = FieldDetail{at, rest}
			}
			p.Errors = append(p.Errors, d)
		}
		return p.complete()
	}
}

// problem is problemAt for requests whose fields are in the body.
func (s *Server) problem(err error) *Problem { return s.problemAt("body", err) }

// problemAt is the one place where errors become HTTP; place is where the
// request's fields are. What a client cannot act on is logged and told
// without its insides.
func (s *Server) problemAt(place string, err error) *Problem {
	var (
		given     *Problem
		question  *answer.InvalidError
		query     *retrieve.InvalidError
		documents *ingest.InvalidError
		missing   *answer.NotFoundError
		full      *decode.QueueFullError
		unready   *decode.NotReadyError
		mismatch  *retrieve.EmbedderMismatchError
		tooLarge  *http.MaxBytesError
		unreached *pgconn.ConnectError
	)
	p := &Problem{Status: http.StatusInternalServerError, Detail: "something went wrong; the server's log says what"}
	switch {
	case errors.As(err, &given):
		p = given
	case errors.As(err, &question):
		p = &Problem{Status: http.StatusUnprocessableEntity, Detail: "the question was refused"}
		for _, f := range question.Fields {
			p.Errors = append(p.Errors, FieldDetail{place + "." + f.Field, f.Message})
		}
	case errors.As(err, &query):
		p = &Problem{Status: http.StatusUnprocessableEntity, Detail: "the search was refused",
			Errors: []FieldDetail{{place + "." + query.Field, query.Reason}}}
	case errors.As(err, &documents):
		p = &Problem{Status: http.StatusUnprocessableEntity, Detail: "the documents were refused",
			Errors: []FieldDetail{{place + "." + documents.Field, documents.Message}}}
	case errors.As(err, &missing), errors.Is(err, retrieve.ErrNotFound), errors.Is(err, ingest.ErrNotFound):
		p = &Problem{Status: http.StatusNotFound, Detail: err.Error()}
	case errors.As(err, &full):
		p = &Problem{Status: http.StatusTooManyRequests, Detail: err.Error(), retryAfter: max(full.RetryAfter, time.Second)}
	case errors.As(err, &unready):
		s.Log.Error("the decoder is not ready", "error", err)
		p = &Problem{Status: http.StatusServiceUnavailable, Detail: err.Error(), retryAfter: retryUnready}
	case errors.As(err, &mismatch), errors.Is(err, ingest.ErrEmbedder), errors.Is(err, ingest.ErrState):
		p = &Problem{Status: http.StatusConflict, Detail: err.Error()}
	case errors.As(err, &tooLarge):
		p = &Problem{Status: http.StatusRequestEntityTooLarge, Detail: "the request is larger than " + strconv.FormatInt(tooLarge.Limit, 10) + " bytes"}
	case errors.As(err, &unreached):
		p = &Problem{Status: http.StatusServiceUnavailable, Detail: "the database cannot be reached", retryAfter: 2 * time.Second}
	default:
		s.Log.Error("request failed", "error", err)
	}
	return p.complete()
}
