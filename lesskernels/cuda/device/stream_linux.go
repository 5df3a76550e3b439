//go:build linux && (amd64 || arm64) && !nocuda

package device

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

type stream struct {
	*driver
	handle    uintptr
	capturing bool
	args      []uint64         // of the launch that is made
	cells     []unsafe.Pointer // where each of them lies
}

type graph struct {
	*driver
	handle uintptr
}

// streamNonBlocking makes a stream independent of the default one (cuda.h).
const streamNonBlocking = 1

func (d *driver) NewStream() (Stream, error) {
	s := &stream{driver: d}
	if err := d.run(func() error { return d.do(cuStreamCreate, uintptr(unsafe.Pointer(&s.handle)), streamNonBlocking) }); err != nil {
		return nil, err
	}
	return s, nil
}

var errCopyCaptured = errors.New("a copy to or from the device cannot be captured in a graph")

// Upload copies from memory that the driver stages before it returns.
func (s *stream) Upload(dst Pointer, src []byte) error {
	if s.capturing {
		return errCopyCaptured
	}
	if len(src) == 0 {
		return nil
	}
	return s.run(func() error {
		return s.do(cuMemcpyHtoDAsync, uintptr(dst), uintptr(unsafe.Pointer(&src[0])), uintptr(len(src)), s.handle)
	})
}

func (s *stream) Download(dst []byte, src Pointer) error {
	if s.capturing {
		return errCopyCaptured
	}
	if len(dst) == 0 {
		return nil
	}
	return s.run(func() error {
		if err := s.do(cuMemcpyDtoHAsync, uintptr(unsafe.Pointer(&dst[0])), uintptr(src), uintptr(len(dst)), s.handle); err != nil {
			return err
		}
		return s.do(cuStreamSynchronize, s.handle)
	})
}

// Copy copies memory of the device, between parts that do not overlap.
func (s *stream) Copy(dst, src Pointer, bytes int64) error {
	if s.capturing {
		return errCopyCaptured
	}
	if bytes == 0 {
		return nil
	}
	return s.run(func() error {
		return s.do(cuMemcpyDtoDAsync, uintptr(dst), uintptr(src), uintptr(bytes), s.handle)
	})
}

func (s *stream) Launch(f Function, grid Grid, args ...uint64) error {
	made, ok := f.(*function)
	if !ok {
		return fmt.Errorf("launch of %s, a kernel of another device", f.Signature().Name)
	}
	signature := &made.signature
	if err := signature.Check(grid, args); err != nil {
		return err
	}
	for len(s.cells) < len(args) {
		s.args = make([]uint64, 2*len(args))
		s.cells = make([]unsafe.Pointer, len(s.args))
		for i := range s.args { // little-endian: the low half of a cell is a 4-byte argument
			s.cells[i] = unsafe.Pointer(&s.args[i])
		}
	}
	copy(s.args, args)
	var cells uintptr
	if len(args) > 0 {
		cells = uintptr(unsafe.Pointer(&s.cells[0]))
	}
	err := s.run(func() error {
		return s.do(cuLaunchKernel, made.handle, uintptr(grid.X), uintptr(grid.Y), uintptr(grid.Z),
			uintptr(signature.Threads), 1, 1, uintptr(signature.Shared), s.handle, cells, 0)
	})
	runtime.KeepAlive(s.cells)
	if err != nil {
		return fmt.Errorf("launch of %s: %w", signature.Name, err)
	}
	return nil
}

// captureRelaxed lets other threads use the driver meanwhile (cuda.h).
const captureRelaxed = 2

func (s *stream) Capture(record func() error) (Graph, error) {
	if s.capturing {
		return nil, errors.New("capture inside a capture")
	}
	if err := s.run(func() error { return s.do(cuStreamBeginCapture, s.handle, captureRelaxed) }); err != nil {
		return nil, err
	}
	s.capturing = true
	failed := record()
	s.capturing = false
	var recorded uintptr
	g := &graph{driver: s.driver}
	err := s.run(func() error { // even after a failure: the stream must leave the capture
		if err := s.do(cuStreamEndCapture, s.handle, uintptr(unsafe.Pointer(&recorded))); err != nil {
			return err
		}
		var err error
		if failed == nil {
			err = s.do(cuGraphInstantiateWithFlags, uintptr(unsafe.Pointer(&g.handle)), recorded, 0)
		}
		return errors.Join(err, s.do(cuGraphDestroy, recorded))
	})
	if err := errors.Join(failed, err); err != nil {
		return nil, err
	}
	return g, nil
}

func (s *stream) Run(g Graph) error {
	captured, ok := g.(*graph)
	switch {
	case !ok:
		return errors.New("run of a graph of another device")
	case s.capturing:
		return errors.New("a graph cannot be captured in a graph")
	}
	return s.run(func() error { return s.do(cuGraphLaunch, captured.handle, s.handle) })
}

func (g *graph) Close() error {
	return g.run(func() error { return g.do(cuGraphExecDestroy, g.handle) })
}

func (s *stream) Wait() error {
	return s.run(func() error { return s.do(cuStreamSynchronize, s.handle) })
}

func (s *stream) Close() error {
	return s.run(func() error { return s.do(cuStreamDestroy, s.handle) })
}
