package cpu

// Products are products with one input that the threads of a Crew share out.
type Products []Product

// Units is what they cost for n tokens, in the units of a stage.
func (p Products) Units(n int) int {
	units := 0
	for _, product := range p {
		units += product.units(n)
	}
	return units
}

// from is the weights of the first product of which a group begins at a unit or later.
func (p Products) from(n, unit int) []byte {
	for _, product := range p {
		each, group := product.unitsOfGroup(n), product.group()
		if panel := (max(0, unit) + each - 1) / each * group; panel < product.Matrix.panels() {
			return product.Matrix.data[panel*product.Matrix.panel:]
		}
		unit -= product.units(n)
	}
	return nil
}

// Ready makes the forms of an input, which is this thread's own, that they read.
func (p Products) Ready(in *Input) {
	for _, product := range p {
		product.check(in)
		in.round(product.form(), product.Matrix.isa)
	}
}

// Do multiplies the groups of panels that begin in some units.
func (p Products) Do(in *Input, from, to int) { unitsOf(p, in, from, to) }

// Chain is Products whose results, finished by the columns of Next, are what a product
// with M reads, as in MulChain. Its units are the blocks of Next's columns.
type Chain struct {
	Products
	Next *Input
	M    *Matrix
}

// Chains tells whether they can be chained: all are of codes, and every block of Next's
// columns is made of whole panels of all products.
func (c *Chain) Chains() bool {
	for _, product := range c.Products {
		if product.form() != codes || product.Matrix.rows != c.M.cols {
			return false
		}
	}
	return c.M.cols%blockLen == 0 && Product{Matrix: c.M}.form() == codes
}

// Begin makes room for what they make. Next has been set, to the same n for all that use
// it in one program.
func (c *Chain) Begin() { c.Next.begin(codes, c.M.isa) }

// Units is how many blocks there are.
func (c *Chain) Units() int { return c.M.cols / blockLen }

// Do makes blocks [from, to) of Next.
func (c *Chain) Do(in *Input, from, to int) {
	const panels = blockLen / panelRows
	for _, product := range c.Products {
		product.panels(in, from*panels, to*panels)
	}
	t := &c.Next.forms[codes]
	for i := range tileCount(c.Next.n, t.width) {
		c.Next.fill(t, codes, c.M.isa, i, from*blockLen, to*blockLen)
	}
}
