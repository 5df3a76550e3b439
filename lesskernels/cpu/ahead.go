package cpu

import "unsafe"

const (
	linesALook = 8         // prefetched between two looks of a thread that waits
	mostAhead  = 128 << 10 // bytes that a thread prefetches at most, a part of its nearest cache
)

// reader brings weights into its thread's cache before they are multiplied.
type reader struct {
	of   *byte
	rest []byte
}

// next sets what is to be read; of the same part only what is left.
func (r *reader) next(ahead [][]byte, thread int) {
	if thread >= len(ahead) || len(ahead[thread]) == 0 {
		*r = reader{}
		return
	}
	if part := ahead[thread]; r.of != &part[0] {
		r.of, r.rest = &part[0], part
	}
}

// read prefetches some lines, and tells whether there were any left.
func (r *reader) read(lines int) bool {
	lines = min(lines, len(r.rest)/64)
	if lines == 0 {
		return false
	}
	prefetch(&r.rest[0], uintptr(lines))
	r.rest = r.rest[lines*64:]
	return true
}

// Announce tells which products of n tokens come after the next one, so that threads
// that wait meanwhile bring the weights that they will begin with into their caches.
func (p *Pool) Announce(n int, products ...Product) {
	units := 0
	for _, product := range products {
		units += product.units(n)
	}
	p.announced = make([][]byte, p.threads)
	for i := range p.announced {
		unit := i * units / p.threads
		for _, product := range products {
			each := product.unitsOfGroup(n)
			if panel := (unit + each - 1) / each * product.group(); panel < product.Matrix.panels() {
				p.announced[i] = product.Matrix.from(panel)
				break
			}
			unit = max(0, unit-product.units(n))
		}
	}
}

// announcement begins a product: what was announced follows it.
func (p *Pool) announcement() { p.ahead, p.announced = p.announced, nil }

// AnnounceChain is Announce for MulChain.
func (p *Pool) AnnounceChain(n int, products ...Product) {
	if n < fewChained {
		p.Announce(n, products...)
		return
	}
	m := products[0].Matrix
	p.announced = make([][]byte, p.threads)
	for i := range p.announced {
		p.announced[i] = m.from(i * (m.rows / blockLen) / p.threads * (blockLen / panelRows))
	}
}

// from is what a thread prefetches that begins with a panel.
func (m *Matrix) from(panel int) []byte {
	rest := m.data[panel*m.panel:]
	return rest[:min(len(rest), mostAhead)]
}

// Prefetch asks for memory that will be read soon.
func Prefetch[T any](x []T) {
	if lines := (len(x)*int(unsafe.Sizeof(*new(T))) + 63) / 64; lines > 0 {
		prefetch((*byte)(unsafe.Pointer(unsafe.SliceData(x))), uintptr(lines))
	}
}
