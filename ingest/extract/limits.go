package extract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// What is unpacked from a document or an archive is bounded three ways: by size, by the ratio of what comes
// out to what went in, and by the depth of one inside the other.
const (
	maxUnpacked   = 64 << 20  // bytes of one document's parts together, and of one gzip or zstd file
	maxArchive    = 1 << 30   // bytes of an archive's entries together; they are read one at a time
	maxRatio      = 200       // bytes out for each byte in, once more than freeBytes have come out
	freeBytes     = 8 << 20   // below this no ratio is suspicious
	maxEntries    = 10_000    // of one archive, and parts of one document
	maxNesting    = 3         // archives in archives, mails in mails
	maxTextBytes  = 32 << 20  // of extracted text
	maxXMLDepth   = 256       // elements inside each other
	maxTagBytes   = 256 << 10 // of one XML tag, whose attributes are held in memory
	maxTableCells = 2_000_000 // of one document, empty ones included
)

// meter counts what comes out of decompressors and ends it at the limits.
type meter struct {
	in  int64 // bytes of the compressed whole
	out int64
	max int64
}

// newMeter is the meter of one document or archive of so many bytes.
func newMeter(content []byte, most int64) *meter { return &meter{in: int64(len(content)), max: most} }

func (m *meter) add(n int) error {
	m.out += int64(n)
	switch {
	case m.out > m.max:
		return overLimit("it unpacks to more than %d MiB", m.max>>20)
	case m.out > freeBytes && m.out/maxRatio > m.in:
		return overLimit("it unpacks to more than %d times its size, as decompression bombs do", maxRatio)
	}
	return nil
}

// metered passes r through the meter.
func (m *meter) metered(r io.Reader) io.Reader { return &meteredReader{m, r} }

type meteredReader struct {
	meter *meter
	r     io.Reader
}

func (r *meteredReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if over := r.meter.add(n); over != nil {
		return 0, over
	}
	return n, err
}

// readAll reads one part of at most limit bytes.
func (m *meter) readAll(r io.Reader, limit int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(m.metered(r), limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, overLimit("a part unpacks to more than %d MiB", limit>>20)
	}
	return b.Bytes(), nil
}

// reading adds what was being read to an error, but keeps refusals as they are.
func reading(what string, err error) error {
	if refusal, ok := errors.AsType[*LimitError](err); ok {
		return refusal
	}
	if locked, ok := errors.AsType[*EncryptedError](err); ok {
		return locked
	}
	return fmt.Errorf("read %s: %w", what, err)
}
