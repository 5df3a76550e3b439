//go:build linux && (amd64 || arm64) && !nocuda

package device

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"
)

type module struct {
	*driver
	handle uintptr
}

type function struct {
	signature Signature
	handle    uintptr
}

func (f *function) Signature() Signature { return f.signature }

// Options of CUjit_option (cuda.h).
const (
	jitErrorLog      = 5
	jitErrorLogBytes = 6
)

// Load lets the driver compile the text for the card.
func (d *driver) Load(ptx string) (Module, error) {
	m := &module{driver: d}
	image, log := append([]byte(ptx), 0), make([]byte, 4096)
	options := []int32{jitErrorLog, jitErrorLogBytes}
	values := []uintptr{uintptr(unsafe.Pointer(&log[0])), uintptr(len(log))}
	err := d.run(func() error {
		return d.do(cuModuleLoadDataEx, uintptr(unsafe.Pointer(&m.handle)), uintptr(unsafe.Pointer(&image[0])), uintptr(len(options)), uintptr(unsafe.Pointer(&options[0])), uintptr(unsafe.Pointer(&values[0])))
	})
	runtime.KeepAlive(log)
	if failed, ok := errors.AsType[*Error](err); ok {
		said, _, _ := strings.Cut(string(log), "\x00")
		failed.Log = strings.TrimSpace(said)
	}
	if err != nil {
		return nil, fmt.Errorf("compile kernels for %s: %w", d.info.Name, err)
	}
	return m, nil
}

func (m *module) Unload() error {
	return m.run(func() error { return m.do(cuModuleUnload, m.handle) })
}

// What a function takes of shared memory above this must be asked for.
const (
	commonShared           = 48 << 10
	attributeDynamicShared = 8 // of CUfunction_attribute (cuda.h)
)

func (m *module) Function(s Signature) (Function, error) {
	f := &function{signature: s}
	name := append([]byte(s.Name), 0)
	err := m.run(func() error {
		if err := m.do(cuModuleGetFunction, uintptr(unsafe.Pointer(&f.handle)), m.handle, uintptr(unsafe.Pointer(&name[0]))); err != nil {
			return err
		}
		if s.Shared <= commonShared {
			return nil
		}
		return m.do(cuFuncSetAttribute, f.handle, attributeDynamicShared, uintptr(s.Shared))
	})
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", s.Name, err)
	}
	return f, nil
}
