package server

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lessrag/ingest"
)

// maxField is the longest value of a form's text field.
const maxField = 1 << 10

// uploadWithin is how long the body of one upload may take to arrive.
const uploadWithin = 10 * time.Minute

// uploadSchema describes the form for the OpenAPI document.
func uploadSchema() *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Required: []string{"file"}, Properties: map[string]*huma.Schema{
		"collection": {Type: huma.TypeString},
		"file":       {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
	}}
}

// multipart takes POST /api/v1/documents when it brings a form; huma's JSON
// twin of the route gets every other request.
func (s *Server) multipart(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if r.Method != http.MethodPost || r.URL.Path != "/api/v1/documents" || kind != "multipart/form-data" {
			next.ServeHTTP(w, r)
			return
		}
		arriving := http.NewResponseController(w)
		_ = arriving.SetReadDeadline(time.Now().Add(uploadWithin)) // not every connection has deadlines
		done, err := s.upload(r)
		_ = arriving.SetReadDeadline(time.Time{})
		if err != nil {
			writeProblem(w, s.problem(err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_ = strictJSON.Marshal(w, done) // a client that has gone misses it
	})
}

// upload reads the whole form before it hands anything in: a cut upload
// leaves nothing behind.
func (s *Server) upload(r *http.Request) (ingest.Submission, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return ingest.Submission{}, badForm(err)
	}
	collection, files, left := s.Collection, []ingest.File(nil), s.MaxUpload
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return ingest.Submission{}, badForm(err)
		}
		switch part.FormName() {
		case "collection":
			name, err := io.ReadAll(io.LimitReader(part, maxField+1))
			if err != nil {
				return ingest.Submission{}, badForm(err)
			}
			if len(name) > maxField {
				return ingest.Submission{}, badField("collection", "is too long")
			}
			collection = cmp.Or(string(name), collection)
		case "file":
			if len(files) == s.MaxFiles {
				return ingest.Submission{}, badField("file", fmt.Sprintf("comes more than %d times", s.MaxFiles))
			}
			f, err := readFile(part, left)
			if err != nil {
				return ingest.Submission{}, err
			}
			left -= int64(len(f.Content))
			files = append(files, f)
		default:
			return ingest.Submission{}, badField(part.FormName(), "is not a field of this form: it has collection and file")
		}
	}
	if len(files) == 0 {
		return ingest.Submission{}, badField("file", "must be there at least once")
	}
	return s.Ingest.Submit(r.Context(), collection, files)
}

func readFile(part *multipart.Part, left int64) (ingest.File, error) {
	content, err := io.ReadAll(io.LimitReader(part, left+1))
	if err != nil {
		return ingest.File{}, badForm(err)
	}
	if int64(len(content)) > left {
		return ingest.File{}, &Problem{Status: http.StatusRequestEntityTooLarge,
			Detail: strconv.Quote(part.FileName()) + " makes the upload larger than this server takes; send fewer files at once"}
	}
	return ingest.File{Name: part.FileName(), Source: part.FileName(), MediaType: part.Header.Get("Content-Type"), Content: content}, nil
}

// badForm is the problem for a form that cannot be read.
func badForm(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return &Problem{Status: http.StatusBadRequest, Detail: "the form cannot be read: " + err.Error()}
}

func badField(name, message string) error {
	return &Problem{Status: http.StatusUnprocessableEntity, Detail: "the form was refused", Errors: []FieldDetail{{"body." + name, message}}}
}
