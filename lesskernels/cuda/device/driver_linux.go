//go:build linux && (amd64 || arm64) && !nocuda

package device

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"
)

const driverPath = "libcuda.so.1"

// Count is how many cards the NVIDIA driver sees, 1 at least: whether they can be used is told by Open. The error is
// ErrUnavailable where there is none, and says why.
func Count() (int, error) {
	l, err := load(driverPath)
	if err != nil {
		return 0, err
	}
	return l.count()
}

// Open takes a card of the NVIDIA driver into use, from 0. The error is
// ErrUnavailable where it cannot be, and says why.
func Open(card int) (Device, error) { return open(driverPath, card) }

// driver is a card of the NVIDIA driver.
type driver struct {
	*library
	device  int32
	context uintptr
	info    Info
	dead    error // once the card is lost: why
}

func open(path string, card int) (*driver, error) {
	l, err := load(path)
	if err != nil {
		return nil, err
	}
	d := &driver{library: l}
	if err := d.start(card); err != nil {
		return nil, unavailable(err)
	}
	return d, nil
}

// unavailable is the error of a call of the driver that would have told what there is to decode on.
func unavailable(err error) error {
	if _, refused := errors.AsType[*Error](err); refused && !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// count readies the driver, and tells how many cards it sees.
func (l *library) count() (int, error) {
	if err := l.do(cuInit, 0); err != nil {
		return 0, unavailable(err)
	}
	v, err := l.version()
	if err != nil {
		return 0, err
	}
	if v < leastDriver {
		return 0, fmt.Errorf("%w: the NVIDIA driver is for CUDA %s, %s or later is needed", ErrUnavailable, version(v), version(leastDriver))
	}
	var n int32
	if err := l.do(cuDeviceGetCount, uintptr(unsafe.Pointer(&n))); err != nil {
		return 0, unavailable(err)
	}
	if n < 1 {
		return 0, fmt.Errorf("%w: the NVIDIA driver sees no card", ErrUnavailable)
	}
	return int(n), nil
}

func (l *library) version() (int, error) {
	var v int32
	if err := l.do(cuDriverGetVersion, uintptr(unsafe.Pointer(&v))); err != nil {
		return 0, unavailable(err)
	}
	return int(v), nil
}

// start makes a context on a card, if the kernels run on it.
func (d *driver) start(card int) error {
	n, err := d.count()
	if err != nil {
		return err
	}
	if card < 0 || card >= n {
		return fmt.Errorf("%w: there is no card %d: the NVIDIA driver sees %d, from 0", ErrUnavailable, card, n)
	}
	if err := d.do(cuDeviceGet, uintptr(unsafe.Pointer(&d.device)), uintptr(card)); err != nil {
		return err
	}
	if err := d.describe(card); err != nil {
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

func (d *driver) describe(card int) error {
	v, err := d.version()
	if err != nil {
		return err
	}
	name := make([]byte, 128)
	if err := d.do(cuDeviceGetName, uintptr(unsafe.Pointer(&name[0])), uintptr(len(name)), uintptr(d.device)); err != nil {
		return err
	}
	d.info.Name, _, _ = strings.Cut(string(name), "\x00")
	d.info.Index, d.info.Driver = card, v
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
