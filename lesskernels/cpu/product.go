package cpu

import "fmt"

// Strided is a matrix of float32 numbers in memory of the caller's: element
// (i, j) is Data[i·Row + j·Col]. Row and Col exchanged, it is the transpose.
type Strided struct {
	Data     []float32
	Row, Col int
}

// Rows is a matrix whose rows of cols numbers follow one another.
func Rows(data []float32, cols int) Strided { return Strided{data, cols, 1} }

// T is the transpose.
func (s Strided) T() Strided { return Strided{s.Data, s.Col, s.Row} }

// has tells whether the memory holds rows × cols elements.
func (s Strided) has(rows, cols int) bool {
	return s.Row >= 0 && s.Col >= 0 && (rows-1)*s.Row+(cols-1)*s.Col < len(s.Data)
}

// AddProduct adds a·b to c: a [m, k] with any strides, b [k, n] and c [m, n]
// with rows of adjacent numbers. For training, where weights change at every
// step and are not worth packing.
func AddProduct(c, a, b Strided, m, n, k int) {
	if m == 0 || n == 0 || k == 0 {
		return
	}
	if b.Col != 1 || c.Col != 1 || !c.has(m, n) || !a.has(m, k) || !b.has(k, n) {
		panic(fmt.Sprintf("cpu: product of [%d, %d] and [%d, %d] with strides %d %d, %d %d and %d %d in %d, %d and %d numbers",
			m, k, k, n, a.Row, a.Col, b.Row, b.Col, c.Row, c.Col, len(a.Data), len(b.Data), len(c.Data)))
	}
	addProduct(machine, c, a, b, m, n, k)
}

// addProductPortable is the oracle.
func addProductPortable(c, a, b Strided, m, n, k int) {
	for i := range m {
		row := c.Data[i*c.Row:][:n]
		for l := range k {
			axpy(row, a.Data[i*a.Row+l*a.Col], b.Data[l*b.Row:][:n])
		}
	}
}
