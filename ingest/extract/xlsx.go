package extract

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/xuri/excelize/v2"
)

const typeXLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

// xlsx reads a workbook (ECMA-376): every sheet is a heading and a table, cells as they are shown (dates and
// numbers in their formats, formulas as their last results).
func xlsx(ctx context.Context, content []byte, p *parts) (Document, error) {
	if err := p.checkSizes(); err != nil { // excelize has limits of its own, but none on the ratio
		return Document{}, err
	}
	book, err := excelize.OpenReader(bytes.NewReader(content), excelize.Options{UnzipSizeLimit: maxUnpacked, UnzipXMLSizeLimit: maxUnpacked})
	if err != nil {
		return Document{}, fmt.Errorf("read XLSX: %w", err)
	}
	defer book.Close()
	var out writer
	for _, sheet := range book.GetSheetList() {
		if visible, err := book.GetSheetVisible(sheet); err == nil && !visible {
			continue
		}
		if err := readSheet(ctx, book, sheet, &out); err != nil {
			return Document{}, reading("sheet "+sheet, err)
		}
	}
	return out.document(typeXLSX)
}

func readSheet(ctx context.Context, book *excelize.File, sheet string, out *writer) error {
	rows, err := book.Rows(sheet)
	if err != nil {
		return err
	}
	defer rows.Close()
	var table [][]string
	for rows.Next() {
		cells, err := rows.Columns()
		if err != nil {
			return err
		}
		if err := out.count(1 + len(cells)); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if strings.TrimSpace(strings.Join(cells, "")) != "" {
			table = append(table, cells)
		}
	}
	if err := rows.Error(); err != nil {
		return err
	}
	if len(table) > 0 {
		out.heading(2, sheet)
		out.table(table)
	}
	return out.err
}

// checkSizes unpacks every part once, to nowhere, so that a bomb is refused before it is believed, and walks
// the XML ones for entities and depth.
func (p *parts) checkSizes() error {
	for name := range p.files {
		if strings.HasSuffix(name, ".xml") || strings.HasSuffix(name, ".rels") {
			if err := p.walk(name, func(*xmlWalker) error { return nil }); err != nil {
				return err
			}
			continue
		}
		r, err := p.open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		r.Close()
		if err != nil {
			return reading(name, err)
		}
	}
	return nil
}
