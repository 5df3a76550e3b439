package cpu

// MulChain is MulAll of products whose results, finished by the columns of next (see
// SetColumns), are what m will be multiplied with. Where all are in integers, the thread
// that computed some columns of every product finishes and rounds them right away, while
// they lie in its nearest cache: nothing has to cross to another core but codes. The
// numbers are those of MulAll, and of a product with m afterwards.
func MulChain(p *Pool, in *Input, next *Input, m *Matrix, products ...Product) {
	if !chains(in, next, m, products) {
		MulAll(p, in, products...)
		return
	}
	micros := 0.0
	for _, product := range products {
		product.check(in)
		micros += product.micros(in.n)
	}
	in.ready(p, products)
	t, ready := next.begin(codes, m.isa)
	if ready {
		panic("cpu: the input that a chain is to finish was read before")
	}
	const panels = blockLen / panelRows
	blocks := func(from, to, thread int) {
		in := in.mine(thread, products)
		for _, product := range products {
			product.panels(in, from*panels, to*panels)
		}
		for i := range tileCount(next.n, t.width) {
			next.fill(t, codes, m.isa, i, from*blockLen, to*blockLen)
		}
	}
	if all := m.cols / blockLen; micros < fewMicros {
		blocks(0, all, 0)
	} else {
		p.Ranges(all, blocks)
	}
	next.each, next.whole = nil, false
}

// fewChained is the tokens from which on a chain is faster: with fewer, products wait for
// the memory, which is read faster in long pieces of one matrix.
const fewChained = 4

// chains tells whether there are tokens enough, and every block of next's columns is made of whole panels of all
// products, all in integers.
func chains(in, next *Input, m *Matrix, products []Product) bool {
	for _, product := range products {
		if product.form() != codes || product.Matrix.rows != m.cols {
			return false
		}
	}
	return in.n >= fewChained && next.n == in.n && next.cols == m.cols && m.cols%blockLen == 0 && !next.whole && Product{Matrix: m}.form() == codes
}
