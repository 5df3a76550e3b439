package decode

import (
	"errors"
	"fmt"
	"time"

	"github.com/ardanlabs/jinja"
)

// What one rendering may use.
const (
	renderTime  = 5 * time.Second
	renderSteps = 1 << 18 // items of loops
	renderCalls = 16      // macros within macros
	renderDepth = 16      // lists within lists
	renderBytes = 256 << 10
	maxRange    = 10_000
)

// ErrTemplateLimit is a chat template that ran past its limits.
var ErrTemplateLimit = errors.New("over the limits of a chat template")

// meter counts what one rendering uses; its functions are what limitTemplate
// writes into a template. Not safe for concurrent use.
type meter struct {
	deadline time.Time
	steps    int // left
	calls    int // open
	written  int // bytes
	bytes    int // the largest output, and the largest value
}

// render runs the template over data whose messages have size bytes.
func (t *Template) render(size int, data map[string]any) (text string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not understood: %v", r)
		}
	}()
	m := &meter{deadline: time.Now().Add(renderTime), steps: renderSteps, bytes: renderBytes + 4*size}
	for name, f := range map[string]func([]jinja.Value) (jinja.Value, error){
		"__out": m.out, "__keep": m.keep, "__copy": m.copy, "__step": m.step, "__enter": m.enter, "__leave": m.leave, "range": numbers,
	} {
		data[name] = jinja.NewCallable(name, func(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) { return f(args) })
	}
	values := make(map[string]jinja.Value, len(data))
	for name, v := range data {
		if value, ok := v.(jinja.Value); ok {
			values[name] = value
		} else {
			values[name] = jinja.FromGoValue(v)
		}
	}
	text, err = t.compiled.RenderValues(values)
	if err != nil && !errors.Is(err, ErrTemplateLimit) {
		return "", fmt.Errorf("%.300s", err) // the template may have written it
	}
	return text, err
}

// out counts what the template writes, and returns it.
func (m *meter) out(args []jinja.Value) (jinja.Value, error) {
	v, err := m.keep(args)
	if err != nil {
		return v, err
	}
	if m.written += size(v, 0, m.bytes); m.written > m.bytes {
		return v, fmt.Errorf("%w: it writes more than %d bytes", ErrTemplateLimit, m.bytes)
	}
	return v, m.inTime()
}

// keep refuses a value that is too large, and returns it otherwise.
func (m *meter) keep(args []jinja.Value) (jinja.Value, error) {
	if len(args) == 0 {
		return jinja.None(), nil
	}
	if size(args[0], 0, m.bytes) > m.bytes {
		return jinja.None(), fmt.Errorf("%w: a value of more than %d bytes or %d levels", ErrTemplateLimit, m.bytes, renderDepth)
	}
	return args[0], m.inTime()
}

// copy is keep, and copies lists and dictionaries.
func (m *meter) copy(args []jinja.Value) (jinja.Value, error) {
	v, err := m.keep(args)
	if err != nil {
		return v, err
	}
	return deepCopy(v), nil
}

// step counts one item of a loop.
func (m *meter) step([]jinja.Value) (jinja.Value, error) {
	if m.steps--; m.steps < 0 {
		return jinja.None(), fmt.Errorf("%w: its loops have more than %d items", ErrTemplateLimit, renderSteps)
	}
	return jinja.NewBool(true), m.inTime()
}

// enter counts a macro that begins, and a step; leave one that ends.
func (m *meter) enter([]jinja.Value) (jinja.Value, error) {
	if m.calls++; m.calls > renderCalls {
		return jinja.None(), fmt.Errorf("%w: macros call each other more than %d deep", ErrTemplateLimit, renderCalls)
	}
	return m.step(nil)
}

func (m *meter) leave([]jinja.Value) (jinja.Value, error) {
	m.calls--
	return jinja.None(), nil
}

func (m *meter) inTime() error {
	if time.Now().After(m.deadline) {
		return fmt.Errorf("%w: it takes more than %v", ErrTemplateLimit, renderTime)
	}
	return nil
}

// size estimates the bytes that v takes when it is written; it gives more than
// limit as soon as that is sure, and for too many levels.
func size(v jinja.Value, depth, limit int) int {
	switch {
	case depth > renderDepth:
		return limit + 1
	case v.IsString():
		return 8 + len(v.AsString())
	case v.IsList():
		n := 8
		for _, item := range v.AsList().Items {
			if n += size(item, depth+1, limit); n > limit {
				break
			}
		}
		return n
	case v.IsDict():
		n := 8
		for key, item := range v.AsDict().Data {
			if n += len(key) + 8 + size(item, depth+1, limit); n > limit {
				break
			}
		}
		return n
	}
	return 32 // a number or a function
}

// deepCopy copies lists and dictionaries; size has bounded them.
func deepCopy(v jinja.Value) jinja.Value {
	switch {
	case v.IsList():
		items := make([]jinja.Value, v.AsList().Len())
		for i, item := range v.AsList().Items {
			items[i] = deepCopy(item)
		}
		return jinja.NewList(items)
	case v.IsDict():
		d := jinja.NewDict()
		for _, key := range v.AsDict().Keys {
			d.AsDict().Set(key, deepCopy(v.AsDict().Data[key]))
		}
		return d
	}
	return v
}

// numbers is Jinja's range, bounded.
func numbers(args []jinja.Value) (jinja.Value, error) {
	var n [3]int64
	for i, a := range args {
		if i >= len(n) || !a.IsInt() {
			return jinja.None(), errors.New("range takes one to three whole numbers")
		}
		n[i] = a.AsInt()
	}
	start, stop, step := n[0], n[1], n[2]
	switch len(args) {
	case 0:
		return jinja.None(), errors.New("range takes one to three whole numbers")
	case 1:
		start, stop, step = 0, n[0], 1
	case 2:
		step = 1
	}
	if step == 0 {
		return jinja.None(), errors.New("range: the step is 0")
	}
	var items []jinja.Value
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(items) == maxRange {
			return jinja.None(), fmt.Errorf("%w: range of more than %d numbers", ErrTemplateLimit, maxRange)
		}
		items = append(items, jinja.NewInt(i))
	}
	return jinja.NewList(items), nil
}
