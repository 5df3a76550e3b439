package teach

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

// streams are the residual streams of all sequences between two layers, in a
// file: what is read stays until what follows from it is complete.
type streams struct {
	dir   string
	sizes []int    // numbers of each sequence
	file  *os.File // read
	next  *os.File // written
	old   *os.File // read before, until a checkpoint says that it is not needed
}

func (s *streams) path(layer int) string {
	return filepath.Join(s.dir, fmt.Sprintf("stream-%d.f32", layer))
}

// open readies the streams that enter a layer; false where they are not there
// or not whole.
func (s *streams) open(layer int) bool {
	f, err := os.Open(s.path(layer))
	if err != nil {
		return false
	}
	total := 0
	for _, n := range s.sizes {
		total += 4 * n
	}
	if info, err := f.Stat(); err != nil || info.Size() != int64(total) {
		f.Close()
		return false
	}
	s.file = f
	return true
}

// begin starts the file of streams to be.
func (s *streams) begin() (err error) {
	s.next, err = os.Create(filepath.Join(s.dir, "stream.part"))
	return err
}

// commit makes what was written the streams that enter a layer. Those that
// were read stay until forget.
func (s *streams) commit(layer int) error {
	if err := s.next.Close(); err != nil {
		return err
	}
	if err := os.Rename(s.next.Name(), s.path(layer)); err != nil {
		return err
	}
	s.next, s.old = nil, s.file
	if !s.open(layer) {
		return fmt.Errorf("teach: %s is not what was written", s.path(layer))
	}
	return nil
}

// forget removes the streams before the last commit.
func (s *streams) forget() error {
	if s.old == nil {
		return nil
	}
	old := s.old
	s.old = nil
	if err := old.Close(); err != nil {
		return err
	}
	return os.Remove(old.Name())
}

// close ends reading; the file stays.
func (s *streams) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

func (s *streams) offset(i int) int64 {
	at := int64(0)
	for _, n := range s.sizes[:i] {
		at += 4 * int64(n)
	}
	return at
}

// read returns sequence i's stream.
func (s *streams) read(i int) ([]float32, error) {
	b := make([]byte, 4*s.sizes[i])
	if _, err := s.file.ReadAt(b, s.offset(i)); err != nil && err != io.EOF {
		return nil, err
	}
	x := make([]float32, s.sizes[i])
	for j := range x {
		x[j] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*j:]))
	}
	return x, nil
}

// write stores what sequence i's stream has become.
func (s *streams) write(i int, x []float32) error {
	b := make([]byte, 0, 4*len(x))
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	_, err := s.next.WriteAt(b, s.offset(i))
	return err
}
