// Package cuda is the decoder's arithmetic on a card: kernels that are compiled to PTX
// ahead of time (src, written to kernels by make kernels), how they are launched, and how
// weights are packed for them. What a card must be able to do is lesskernels/cuda/device.
package cuda

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"unsafe"

	"lessrag/lesskernels/cuda/device"
)

//go:embed kernels/*.ptx kernels/*.json
var files embed.FS

// Kernels are the kernels that a device has compiled.
type Kernels struct {
	modules   []device.Module
	functions map[string]device.Function
}

// description is how a kernel is launched: what src/build.py writes beside the text.
type description struct {
	Function  string
	Arguments [][2]string // name and type
	Threads   int
	Shared    int
}

// scratchParams are two pointers that Triton appends to the arguments of every kernel,
// for memory that none of these needs.
const scratchParams = 2

// Load lets the device compile all kernels.
func Load(d device.Device) (*Kernels, error) {
	names, err := files.ReadDir("kernels")
	if err != nil {
		return nil, err
	}
	k := &Kernels{functions: map[string]device.Function{}}
	for _, entry := range names {
		name, ok := strings.CutSuffix(entry.Name(), ".ptx")
		if !ok {
			continue
		}
		if err := k.load(d, name); err != nil {
			return nil, errors.Join(fmt.Errorf("load kernel %s: %w", name, err), k.Close())
		}
	}
	return k, nil
}

func (k *Kernels) load(d device.Device, name string) error {
	text, about, err := source(name)
	if err != nil {
		return err
	}
	return k.compile(d, name, text, about)
}

func (k *Kernels) compile(d device.Device, name, text string, about description) error {
	m, err := d.Load(text)
	if err != nil {
		return err
	}
	k.modules = append(k.modules, m)
	k.functions[name], err = m.Function(device.Signature{Name: about.Function, Params: len(about.Arguments) + scratchParams, Threads: about.Threads, Shared: about.Shared})
	return err
}

// source is a kernel's text and how it is launched.
func source(name string) (string, description, error) {
	var about description
	text, err := files.ReadFile(path.Join("kernels", name+".ptx"))
	if err != nil {
		return "", about, err
	}
	encoded, err := files.ReadFile(path.Join("kernels", name+".json"))
	if err != nil {
		return "", about, err
	}
	return string(text), about, json.Unmarshal(encoded, &about)
}

// Close gives the modules back.
func (k *Kernels) Close() error {
	var errs []error
	for _, m := range k.modules {
		errs = append(errs, m.Unload())
	}
	k.modules, k.functions = nil, nil
	return errors.Join(errs...)
}

// launch starts a kernel with all of its arguments but the scratch ones.
func (k *Kernels) launch(s device.Stream, name string, grid device.Grid, args ...uint64) error {
	f, ok := k.functions[name]
	if !ok {
		return fmt.Errorf("cuda: there is no kernel %s", name)
	}
	return s.Launch(f, grid, append(args, 0, 0)...)
}

// blocks is how many blocks of a size n takes.
func blocks(n, size int) int { return (n + size - 1) / size }

func address(p device.Pointer) uint64 { return uint64(p) }

// Bytes is the memory of numbers as it is copied to and from a device, both of which are
// little-endian.
func Bytes[T uint16 | int32 | int64 | float32 | float64 | [4]int32 | Ask | SquaresJob | Tile | Place | Move | Store | Mean | Watch | StateEntry | Leaving | Job | Turn | PackJob | PackRow | Deviation](values []T) []byte {
	var zero T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(zero)))
}
