// Package ptx is a card made of Go for tests: it runs the PTX text that ships, and is
// stricter than a card. An access outside of what was allocated, one that is not aligned, a
// race between warps of a block, a barrier that not all reach, an instruction or operand that
// it does not know: all are errors. Memory that nobody wrote holds no numbers, and
// approximate instructions are as far off as the ISA allows.
//
// It knows what Triton makes for compute 8.0. It does not model the memory of several blocks
// that run at once, the order in which a card sums inside a matrix product, nor time.
package ptx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"lessrag/lesskernels/cuda/device"
)

// Device is the interpreter as a card.
type Device struct {
	memory memory
	free   int64
	dead   error // once a kernel has failed: why

	Index int           // of the card that it stands for
	Steps atomic.Uint64 // instructions of warps that ran
}

// New is a card with so many bytes.
func New(bytes int64) *Device { return &Device{free: bytes} }

var _ device.Device = (*Device)(nil)

// Info describes the interpreter.
func (d *Device) Info() (device.Info, error) {
	return device.Info{Index: d.Index, Name: "PTX interpreter", Driver: 11000, Major: 8, Multiprocessors: 1, Memory: d.free + d.used(), Free: d.free}, d.dead
}

func (d *Device) used() int64 {
	n := int64(0)
	for _, a := range d.memory.list {
		n += int64(len(a.bytes))
	}
	return n
}

// Alloc takes memory that holds no numbers.
func (d *Device) Alloc(bytes int64) (device.Pointer, error) {
	switch {
	case d.dead != nil:
		return 0, d.lost()
	case bytes < 1:
		return 0, fmt.Errorf("allocate %d bytes on the device", bytes)
	case bytes > d.free:
		return 0, fmt.Errorf("allocate %d bytes on the device, which has %d: %w", bytes, d.free, device.ErrMemory)
	}
	d.free -= bytes
	return d.memory.take(bytes), nil
}

// Free gives memory back.
func (d *Device) Free(p device.Pointer) error {
	a := d.memory.find(uint64(p))
	if !d.memory.give(p) {
		return fmt.Errorf("free of %#x, which is not allocated", p)
	}
	d.free += int64(len(a.bytes))
	return nil
}

// Close checks that all memory was given back.
func (d *Device) Close() error {
	if n := d.used(); n > 0 {
		return fmt.Errorf("%d bytes of the device were not given back", n)
	}
	return nil
}

// Lose makes the device as one whose kernel has failed.
func (d *Device) Lose(why error) { d.dead = why }

// Reopen forgets all that was allocated.
func (d *Device) Reopen() error {
	d.free += d.used()
	d.memory.list, d.dead = nil, nil
	return nil
}

func (d *Device) lost() error { return fmt.Errorf("%w: %w", device.ErrLost, d.dead) }

type module struct {
	device  *Device
	kernels map[string]*kernel
}

type function struct {
	*kernel
	signature device.Signature
}

func (f *function) Signature() device.Signature { return f.signature }

// Load decodes a text.
func (d *Device) Load(text string) (device.Module, error) {
	kernels, err := parse(text)
	return &module{d, kernels}, err
}

func (m *module) Unload() error { return nil }

// Function checks the signature against the text.
func (m *module) Function(s device.Signature) (device.Function, error) {
	k, ok := m.kernels[s.Name]
	switch {
	case !ok:
		return nil, fmt.Errorf("there is no kernel %s", s.Name)
	case len(k.order) != s.Params || k.threads != s.Threads:
		return nil, fmt.Errorf("kernel %s has %d parameters and %d threads, not %d and %d", s.Name, len(k.order), k.threads, s.Params, s.Threads)
	case s.Threads%32 != 0 || s.Threads > 1024:
		return nil, fmt.Errorf("kernel %s with %d threads", s.Name, s.Threads)
	}
	return &function{k, s}, nil
}

// launch runs a kernel to its end.
func (d *Device) launch(f *function, grid device.Grid, args []uint64) (err error) {
	b := block{kernel: f.kernel, memory: &d.memory, params: f.pack(args), shared: newShared(f.signature.Shared), grid: [3]int{grid.X, grid.Y, grid.Z}}
	warps := make([]warp, f.threads/32)
	defer func() {
		d.Steps.Add(b.steps)
		switch r := recover().(type) {
		case nil:
		case fault:
			d.dead = errors.New(r.text)
			err = d.lost()
		default:
			panic(r)
		}
	}()
	for z := range grid.Z {
		for y := range grid.Y {
			for x := range grid.X {
				b.index = [3]int{x, y, z}
				b.shared.reset()
				b.runBlock(warps)
			}
		}
	}
	return nil
}

// pack lays the arguments out as the kernel reads them.
func (k *kernel) pack(args []uint64) []byte {
	out := make([]byte, k.size)
	for i, p := range k.order {
		if p.size == 8 {
			binary.LittleEndian.PutUint64(out[p.offset:], args[i])
		} else {
			binary.LittleEndian.PutUint32(out[p.offset:], uint32(args[i]))
		}
	}
	return out
}
