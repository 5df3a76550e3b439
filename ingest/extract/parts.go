package extract

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"path"
	"strings"
)

// parts are the files inside a document that is a zip: DOCX, PPTX, XLSX, ODT, EPUB.
type parts struct {
	files map[string]*zip.File
	meter *meter
}

var (
	endOfDirectory = []byte("PK\x05\x06")
	directoryEntry = []byte("PK\x01\x02")
)

// openZip reads the directory of a zip. The entries are counted before the directory is believed,
// because each costs some hundred bytes of memory.
func openZip(content []byte) (*zip.Reader, error) {
	if n := bytes.Count(content, directoryEntry); n > maxEntries {
		return nil, overLimit("the archive has %d entries; at most %d are taken", n, maxEntries)
	}
	r, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if errors.Is(err, zip.ErrInsecurePath) { // names are data here, nothing is written by them
		err = nil
	}
	if err != nil && !bytes.Contains(content, endOfDirectory) {
		err = errors.New("the file is truncated: its directory is missing")
	}
	if err != nil {
		return nil, reading("zip", err)
	}
	return r, nil
}

// openParts opens a document that is a zip.
func openParts(content []byte) (*parts, error) {
	r, err := openZip(content)
	if err != nil {
		return nil, err
	}
	p := &parts{files: make(map[string]*zip.File, len(r.File)), meter: newMeter(content, maxUnpacked)}
	for _, f := range r.File {
		name := path.Clean(strings.TrimPrefix(strings.ReplaceAll(f.Name, `\`, "/"), "/"))
		if _, twice := p.files[name]; !twice {
			p.files[name] = f
		}
	}
	return p, nil
}

func (p *parts) has(name string) bool { return p.files[name] != nil }

// open gives one part through the meter. A part that is not there is an error that names it.
func (p *parts) open(name string) (io.ReadCloser, error) {
	f := p.files[path.Clean(name)]
	if f == nil {
		return nil, errors.New("the part " + name + " is missing")
	}
	if f.Flags&1 != 0 {
		return nil, &EncryptedError{"zip"}
	}
	r, err := f.Open()
	if err != nil {
		return nil, reading(name, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{p.meter.metered(r), r}, nil
}

// read gives a whole part.
func (p *parts) read(name string) ([]byte, error) {
	r, err := p.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, reading(name, err)
	}
	return content, nil
}

// relations are the targets of a part's relationships by id, as paths inside the zip. A part may have none.
func (p *parts) relations(part string) (map[string]relation, error) {
	name := path.Join(path.Dir(part), "_rels", path.Base(part)+".rels")
	found := map[string]relation{}
	if !p.has(name) {
		return found, nil
	}
	err := p.walk(name, func(w *xmlWalker) error {
		if !w.at("Relationship") || w.attr("TargetMode") == "External" {
			return nil
		}
		target := w.attr("Target")
		if !strings.HasPrefix(target, "/") {
			target = path.Join(path.Dir(part), target)
		}
		found[w.attr("Id")] = relation{path.Clean(strings.TrimPrefix(target, "/")), path.Base(w.attr("Type"))}
		return nil
	})
	return found, err
}

// relation of the Open Packaging Conventions.
type relation struct {
	target string
	kind   string // the last word of its type: slide, notesSlide, styles
}
