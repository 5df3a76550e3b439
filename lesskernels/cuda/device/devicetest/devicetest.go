// Package devicetest holds what every device must keep: the tests of package device for
// its implementations.
package devicetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"lessrag/lesskernels/cuda/device"
)

// Card is this machine's first card. Where there is none, the test is skipped, or fails if
// LESSRAG_REQUIRE_CARD is set.
func Card(t *testing.T) device.Device {
	t.Helper()
	return open(t, 0)
}

// Cards are all of them; where there is none, it is as with Card.
func Cards(t *testing.T) []device.Device {
	t.Helper()
	all := []device.Device{open(t, 0)}
	n, err := device.Count()
	if err != nil {
		t.Fatal(err)
	}
	for len(all) < n {
		all = append(all, open(t, len(all)))
	}
	return all
}

func open(t *testing.T, card int) device.Device {
	t.Helper()
	d, err := device.Open(card)
	if errors.Is(err, device.ErrUnavailable) && os.Getenv("LESSRAG_REQUIRE_CARD") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// addText adds its third argument to n numbers of 32 bits, a block of 32 at a time.
const addText = `.version 7.0
.target sm_80
.address_size 64
.visible .entry add(
	.param .u64 .ptr .global .align 1 list,
	.param .u32 n,
	.param .u32 by
)
.reqntid 32
{
	.reg .pred 	%p<2>;
	.reg .b32 	%r<8>;
	.reg .b64 	%rd<4>;
	ld.param.b64 	%rd1, [list];
	ld.param.b32 	%r1, [n];
	ld.param.b32 	%r2, [by];
	mov.u32 	%r3, %ctaid.x;
	mov.u32 	%r4, %tid.x;
	mad.lo.s32 	%r5, %r3, 32, %r4;
	setp.ge.s32 	%p1, %r5, %r1;
	@%p1 bra 	$done;
	mad.wide.s32 	%rd2, %r5, 4, %rd1;
	ld.global.b32 	%r6, [%rd2];
	add.s32 	%r7, %r6, %r2;
	st.global.b32 	[%rd2], %r7;
$done:
	ret;
}
`

// Run proves that a device keeps the contract. Nothing in it loses the device.
func Run(t *testing.T, d device.Device) {
	c := conformance{t: t, d: d}
	var err error
	c.s, err = d.NewStream()
	c.must(err)
	m, err := d.Load(addText)
	c.must(err)
	c.add, err = m.Function(device.Signature{Name: "add", Params: 3, Threads: 32})
	c.must(err)
	for name, check := range map[string]func(*conformance){"info": (*conformance).info, "copies": (*conformance).copies, "launches": (*conformance).launches,
		"graphs": (*conformance).graphs, "refusals": (*conformance).refusals} {
		t.Run(name, func(t *testing.T) {
			part := c
			part.t = t
			check(&part)
		})
	}
	c.must(c.s.Wait())
	c.must(errors.Join(c.s.Close(), m.Unload(), d.Close()))
}

type conformance struct {
	t   *testing.T
	d   device.Device
	s   device.Stream
	add device.Function
}

func (c *conformance) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// numbers puts 0…n−1 on the device.
func (c *conformance) numbers(n int) device.Pointer {
	c.t.Helper()
	p, err := c.d.Alloc(int64(4 * n))
	c.must(err)
	c.t.Cleanup(func() { c.must(c.d.Free(p)) })
	var data []byte
	for i := range n {
		data = binary.LittleEndian.AppendUint32(data, uint32(i))
	}
	c.must(c.s.Upload(p, data))
	clear(data) // the copy is the device's
	return p
}

// holds checks that each of n numbers is so much more than its index.
func (c *conformance) holds(p device.Pointer, n, more int) {
	c.t.Helper()
	data := make([]byte, 4*n)
	c.must(c.s.Download(data, p))
	for i := range n {
		if got := int(int32(binary.LittleEndian.Uint32(data[4*i:]))); got != i+more {
			c.t.Fatalf("number %d is %d, want %d", i, got, i+more)
		}
	}
}

func (c *conformance) info() {
	before, err := c.d.Info()
	c.must(err)
	if before.Name == "" || before.Major < 8 || before.Multiprocessors < 1 || before.Free < 1 || before.Free > before.Memory {
		c.t.Errorf("%+v", before)
	}
}

func (c *conformance) copies() {
	p := c.numbers(1000)
	if p%256 != 0 {
		c.t.Errorf("memory at %#x", p)
	}
	c.holds(p, 1000, 0)
	part := make([]byte, 8)
	c.must(c.s.Download(part, p+4*500))
	if !bytes.Equal(part, []byte{0xf4, 1, 0, 0, 0xf5, 1, 0, 0}) {
		c.t.Errorf("the middle is %v", part)
	}
	c.must(c.s.Copy(p+4*900, p+4*500, 8))
	c.must(c.s.Download(part, p+4*900))
	if !bytes.Equal(part, []byte{0xf4, 1, 0, 0, 0xf5, 1, 0, 0}) {
		c.t.Errorf("the middle was copied as %v", part)
	}
	c.must(c.s.Copy(p, p, 0))
	c.must(c.s.Upload(p, nil))
	c.must(c.s.Download(nil, p))
}

// Launches of a stream run in order; a grid need not divide what it works on.
func (c *conformance) launches() {
	const n = 100
	p := c.numbers(n)
	for i := range 5 {
		c.must(c.s.Launch(c.add, device.Grid{X: 4, Y: 1, Z: 1}, uint64(p), device.I32(n), device.I32(i-3)))
	}
	c.holds(p, n, -5)
}

// A graph does what was captured, as often as it is run, with the arguments of then; to
// capture runs nothing.
func (c *conformance) graphs() {
	const n = 40
	p := c.numbers(n)
	by := 7
	g, err := c.s.Capture(func() error {
		for range 2 {
			if err := c.s.Launch(c.add, device.Grid{X: 2, Y: 1, Z: 1}, uint64(p), device.I32(n), device.I32(by)); err != nil {
				return err
			}
		}
		return nil
	})
	c.must(err)
	c.holds(p, n, 0)
	by = 1000
	for range 3 {
		c.must(c.s.Run(g))
	}
	c.holds(p, n, 3*2*7)
	c.must(g.Close())
}

func (c *conformance) refusals() {
	p := c.numbers(1)
	one := device.Grid{X: 1, Y: 1, Z: 1}
	failed := errors.New("what was recorded failed")
	for want, refused := range map[string]func() error{
		"2 arguments, 3 are wanted": func() error { return c.s.Launch(c.add, one, uint64(p), 1) },
		"0 × 1 × 1 blocks":          func() error { return c.s.Launch(c.add, device.Grid{X: 0, Y: 1, Z: 1}, uint64(p), 1, 1) },
		"allocate 0 bytes":          func() error { _, err := c.d.Alloc(0); return err },
		"cannot be captured":        func() error { _, err := c.s.Capture(func() error { return c.s.Upload(p, []byte{1}) }); return err },
		failed.Error():              func() error { _, err := c.s.Capture(func() error { return failed }); return err },
	} {
		if err := refused(); err == nil || !strings.Contains(err.Error(), want) {
			c.t.Errorf("%v, want an error that says %q", err, want)
		}
	}
	if _, err := c.d.Alloc(1 << 50); !errors.Is(err, device.ErrMemory) || errors.Is(err, device.ErrLost) {
		c.t.Errorf("2⁵⁰ bytes: %v", err)
	}
	if _, err := c.d.Load(".version 7.0\n.target sm_80\nnonsense\n"); err == nil {
		c.t.Error("nonsense is compiled")
	}
	c.must(c.s.Launch(c.add, one, uint64(p), 1, 5)) // all of that has harmed nothing
	c.holds(p, 1, 5)
}
