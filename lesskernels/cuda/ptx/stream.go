package ptx

import (
	"errors"
	"fmt"
	"slices"

	"lessrag/lesskernels/cuda/device"
)

// stream runs what it is given at once.
type stream struct {
	device    *Device
	recording *graph // not nil inside Capture
}

type graph struct {
	device   *Device
	launches []launch
}

type launch struct {
	function *function
	grid     device.Grid
	args     []uint64
}

// NewStream makes a stream.
func (d *Device) NewStream() (device.Stream, error) {
	if d.dead != nil {
		return nil, d.lost()
	}
	return &stream{device: d}, nil
}

func (s *stream) Upload(dst device.Pointer, src []byte) error {
	to, err := s.span(dst, len(src))
	copy(to, src)
	return err
}

func (s *stream) Download(dst []byte, src device.Pointer) error {
	from, err := s.span(src, len(dst))
	copy(dst, from)
	return err
}

func (s *stream) Copy(dst, src device.Pointer, bytes int64) error {
	to, err := s.span(dst, int(bytes))
	if err != nil {
		return err
	}
	from, err := s.span(src, int(bytes))
	copy(to, from)
	return err
}

// span is memory that is copied.
func (s *stream) span(p device.Pointer, n int) ([]byte, error) {
	switch {
	case s.device.dead != nil:
		return nil, s.device.lost()
	case s.recording != nil:
		return nil, errors.New("a copy to or from the device cannot be captured in a graph")
	case n == 0:
		return nil, nil
	}
	b := s.device.memory.span(uint64(p), n)
	if b == nil {
		return nil, fmt.Errorf("copy of %d bytes at %#x, outside of what is allocated", n, p)
	}
	return b, nil
}

func (s *stream) Launch(f device.Function, grid device.Grid, args ...uint64) error {
	made, ok := f.(*function)
	if !ok {
		return fmt.Errorf("launch of %s, a kernel of another device", f.Signature().Name)
	}
	if err := made.signature.Check(grid, args); err != nil {
		return err
	}
	switch {
	case s.device.dead != nil:
		return s.device.lost()
	case s.recording != nil:
		s.recording.launches = append(s.recording.launches, launch{made, grid, slices.Clone(args)})
		return nil
	}
	return s.device.launch(made, grid, args)
}

func (s *stream) Capture(record func() error) (device.Graph, error) {
	if s.recording != nil {
		return nil, errors.New("capture inside a capture")
	}
	g := &graph{device: s.device}
	s.recording = g
	err := record()
	s.recording = nil
	if err != nil {
		return nil, err
	}
	return g, nil
}

func (s *stream) Run(g device.Graph) error {
	captured, ok := g.(*graph)
	switch {
	case !ok || captured.device != s.device:
		return errors.New("run of a graph of another device")
	case s.recording != nil:
		return errors.New("a graph cannot be captured in a graph")
	case s.device.dead != nil:
		return s.device.lost()
	}
	for _, l := range captured.launches {
		if err := s.device.launch(l.function, l.grid, l.args); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) Wait() error {
	if s.device.dead != nil {
		return s.device.lost()
	}
	return nil
}

func (s *stream) Close() error { return nil }
func (g *graph) Close() error  { return nil }
