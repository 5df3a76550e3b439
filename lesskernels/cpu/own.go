package cpu

import "slices"

// fewOwn is the most rows that every thread makes and rounds for itself: sooner than it
// gets what another has made, and neither waits for the other.
const fewOwn = 8

// SetMade is Set for rows that a product makes: make writes a row to dst, in any order
// and from several threads, and of few rows each thread writes all. x [n, cols] is where
// many are written.
func (in *Input) SetMade(x []float32, n, cols int, make func(dst []float32, row int)) {
	in.SetEach(x, n, cols, func(row int) { make(x[row*cols:][:cols], row) })
	in.make, in.private = make, n <= fewOwn
}

// ready makes what products read, or room for it.
func (in *Input) ready(p *Pool, products []Product) {
	if in.private {
		for len(in.own) < p.threads {
			in.own = append(in.own, new(Input))
		}
		return
	}
	for _, product := range products {
		in.form(p, product.form(), product.Matrix.isa)
	}
}

// mine is what a thread multiplies with: its own Input where it has one, with the forms
// of the products.
func (in *Input) mine(thread int, products []Product) *Input {
	if !in.private {
		return in
	}
	own := in.own[thread]
	if own.sets != in.sets {
		x := in.x
		if in.make != nil {
			own.room = slices.Grow(own.room[:0], in.n*in.cols)
			x = own.room[:in.n*in.cols]
			for row := range in.n {
				in.make(x[row*in.cols:][:in.cols], row)
			}
		}
		own.Set(x, in.n, in.cols)
		own.sets = in.sets
	}
	for _, product := range products {
		f, isa := product.form(), product.Matrix.isa
		if t, ready := own.begin(f, isa); !ready {
			for i := range tileCount(own.n, t.width) {
				own.fill(t, f, isa, i, 0, own.cols)
			}
		}
	}
	return own
}
