package cpu

import "slices"

// fewOwn is the most rows that every thread makes and rounds for itself: sooner than it
// gets what another has made, and neither waits for the other.
const fewOwn = 8

// SetMade is Set for rows that a product makes of those of src [n, cols], in any order
// and from several threads; of few rows each thread makes all. x [n, cols] is where many
// are written.
func (in *Input) SetMade(x, src []float32, n, cols int, make func(dst, src []float32)) {
	in.SetEach(x, n, cols, func(row int) { make(x[row*cols:][:cols], src[row*cols:][:cols]) })
	in.make, in.src, in.private = make, src[:n*cols], n <= fewOwn
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
				in.make(x[row*in.cols:][:in.cols], in.src[row*in.cols:][:in.cols])
			}
		}
		own.Set(x, in.n, in.cols)
		own.sets = in.sets
	}
	for _, product := range products {
		own.round(product.form(), product.Matrix.isa)
	}
	return own
}

// round makes all of a form on this thread, unless it is there.
func (in *Input) round(f form, isa ISA) {
	if t, ready := in.begin(f, isa); !ready {
		for i := range tileCount(in.n, t.width) {
			in.fill(t, f, isa, i, 0, in.cols)
		}
	}
}
