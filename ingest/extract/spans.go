package extract

import (
	"strconv"

	dom "golang.org/x/net/html"
)

const (
	maxSpan      = 100    // columns or rows that one cell may go over
	maxSpanCells = 50_000 // places that the spanning cells of a page may fill together
)

// limitSpans makes cells that claim to go over more columns and rows than any table has plain ones: the
// converter fills every place that a cell spans, so that one tag could ask for 10¹⁰ of them.
func limitSpans(n *dom.Node) { spanBudget(maxSpanCells).limit(n) }

type spanBudget int

func (b spanBudget) limit(n *dom.Node) spanBudget {
	if n.Type == dom.ElementNode {
		columns, rows := span(n, "colspan"), span(n, "rowspan")
		if columns > maxSpan || rows > maxSpan || columns*rows > int(b) {
			dropSpans(n)
		} else if columns*rows > 1 {
			b -= spanBudget(columns * rows)
		}
	}
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		b = b.limit(child)
	}
	return b
}

// span is the number in an attribute, 1 without it, and more than is allowed for what is no number that fits.
func span(n *dom.Node, key string) int {
	for _, a := range n.Attr {
		if a.Key == key {
			v, err := strconv.Atoi(a.Val)
			if err != nil || v < 1 || v > maxSpan {
				return maxSpan + 1
			}
			return v
		}
	}
	return 1
}

func dropSpans(n *dom.Node) {
	kept := n.Attr[:0]
	for _, a := range n.Attr {
		if a.Key != "colspan" && a.Key != "rowspan" {
			kept = append(kept, a)
		}
	}
	n.Attr = kept
}
