//go:build linux && (amd64 || arm64) && !nocuda

package device

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"
)

// Open takes the first card of the NVIDIA driver into use. The error is
// ErrUnavailable where there is none, and says why.
func Open() (Device, error) { return open("libcuda.so.1") }

// driver is a card of the NVIDIA driver.
type driver struct {
	*library
	device  int32
	context uintptr
	info    Info
	dead    error // once the card is lost: why
}

func open(path string) (*driver, error) {
	l, err := load(path)
	if err != nil {
		return nil, err
	}
	d := &driver{library: l}
	if err := d.start(); err != nil {
		if _, refused := errors.AsType[*Error](err); refused && !errors.Is(err, ErrUnavailable) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return nil, err
	}
	return d, nil
}

// start looks for a card that the kernels run on, and makes a context.
func (d *driver) start() error {
	if err := d.do(cuInit, 0); err != nil {
		return err
	}
	var count, v int32
	if err := d.do(cuDriverGetVersion, uintptr(unsafe.Pointer(&v))); err != nil {
		return err
	}
	if v < leastDriver {
		return fmt.Errorf("%w: the NVIDIA driver is for CUDA %s, %s or later is needed", ErrUnavailable, version(int(v)), version(leastDriver))
	}
	if err := d.do(cuDeviceGetCount, uintptr(unsafe.Pointer(&count))); err != nil {
		return err
	}
	if count < 1 {
		return fmt.Errorf("%w: the NVIDIA driver sees no card", ErrUnavailable)
	}
	if err := d.do(cuDeviceGet, uintptr(unsafe.Pointer(&d.device)), 0); err != nil {
		return err
	}
	if err := d.describe(int(v)); err != nil {
		return err
	}
	if d.info.Major < 8 {
		return fmt.Errorf("%w: %v is too old, compute 8.0 (Ampere) or later is needed", ErrUnavailable, d.info)
	}
	return d.do(cuDevicePrimaryCtxRetain, uintptr(unsafe.Pointer(&d.context)), uintptr(d.device))
}

// Attributes of CUdevice_attribute (cuda.h).
const (
	attributeMultiprocessors = 16
	attributeMajor           = 75
	attributeMinor           = 76
)

func (d *driver) describe(v int) error {
	name := make([]byte, 128)
	if err := d.do(cuDeviceGetName, uintptr(unsafe.Pointer(&name[0])), uintptr(len(name)), uintptr(d.device)); err != nil {
		return err
	}
	d.info.Name, _, _ = strings.Cut(string(name), "\x00")
	d.info.Driver = v
	for attribute, to := range map[uintptr]*int{attributeMajor: &d.info.Major, attributeMinor: &d.info.Minor, attributeMultiprocessors: &d.info.Multiprocessors} {
		var value int32
		if err := d.do(cuDeviceGetAttribute, uintptr(unsafe.Pointer(&value)), attribute, uintptr(d.device)); err != nil {
			return err
		}
		*to = int(value)
	}
	return nil
}

// run makes calls with the card's context current on this thread. Once the card is
// lost it makes none: they would all fail, less clearly.
func (d *driver) run(calls func() error) error {
	if d.dead != nil {
		return fmt.Errorf("the device was lost before: %w", d.dead)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := d.do(cuCtxSetCurrent, d.context)
	if err == nil {
		err = calls()
	}
	if errors.Is(err, ErrLost) {
		d.dead = err
	}
	return err
}

func (d *driver) Info() (Info, error) {
	var free, total uint64
	err := d.run(func() error {
		return d.do(cuMemGetInfo, uintptr(unsafe.Pointer(&free)), uintptr(unsafe.Pointer(&total)))
	})
	d.info.Free, d.info.Memory = int64(free), int64(total)
	return d.info, err
}

func (d *driver) Alloc(bytes int64) (Pointer, error) {
	if bytes < 1 {
		return 0, fmt.Errorf("allocate %d bytes on the device", bytes)
	}
	var p Pointer
	if err := d.run(func() error { return d.do(cuMemAlloc, uintptr(unsafe.Pointer(&p)), uintptr(bytes)) }); err != nil {
		return 0, fmt.Errorf("allocate %d bytes on the device: %w", bytes, err)
	}
	return p, nil
}

func (d *driver) Free(p Pointer) error {
	return d.run(func() error { return d.do(cuMemFree, uintptr(p)) })
}

// Reopen makes a new context in place of one that a fault has spoiled. Whether the driver allows it depends
// on the fault: after some, only another process gets one.
func (d *driver) Reopen() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if d.context != 0 {
		d.context = 0
		d.do(cuDevicePrimaryCtxRelease, uintptr(d.device)) // it tells the fault once more
	}
	if err := d.do(cuDevicePrimaryCtxReset, uintptr(d.device)); err != nil {
		return err
	}
	var context uintptr
	if err := d.do(cuDevicePrimaryCtxRetain, uintptr(unsafe.Pointer(&context)), uintptr(d.device)); err != nil {
		return err
	}
	d.context, d.dead = context, nil
	return nil
}

func (d *driver) Close() error {
	if d.context == 0 {
		return nil
	}
	d.context = 0
	return d.do(cuDevicePrimaryCtxRelease, uintptr(d.device))
}
