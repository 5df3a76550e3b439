package extract

import (
	"encoding/csv"
	"errors"
	"io"
	"strings"
)

const typeCSV = "text/csv"

// delimiters of tables in text, the likeliest first.
var delimiters = []rune{',', '\t', ';', '|'}

// sampleRows are looked at to tell a table from prose.
const sampleRows = 20

// csvDelimiter returns the character that parts the first lines of a text into equally many fields, or 0.
// claimed says that the sender calls it a table; without that, more evidence is asked for.
func csvDelimiter(text string, claimed bool) rune {
	minRows, minFields := 5, 3
	if claimed {
		minRows, minFields = 1, 2
	}
	sample := text[:min(len(text), 64<<10)]
	best, most := rune(0), 0
	for _, d := range delimiters {
		rows, fields := regularRows(sample, d)
		if rows >= minRows && fields >= minFields && fields > most {
			best, most = d, fields
		}
	}
	return best
}

// regularRows counts the leading rows that have as many fields as the first; any other makes it none.
func regularRows(sample string, delimiter rune) (rows, fields int) {
	r := newCSV(sample, delimiter)
	for rows < sampleRows {
		row, err := r.Read()
		if errors.Is(err, io.EOF) || err != nil && r.InputOffset() >= int64(len(sample))-1 {
			break
		}
		if err != nil || rows > 0 && len(row) != fields {
			return 0, 0
		}
		if rows == 0 {
			fields = len(row)
		}
		rows++
	}
	return rows, fields
}

func newCSV(text string, delimiter rune) *csv.Reader {
	r := csv.NewReader(strings.NewReader(text))
	r.Comma = delimiter
	r.FieldsPerRecord = -1
	r.LazyQuotes = true
	return r
}

// csvTable reads a table in text (RFC 4180 and its relatives); the first row is its header.
func csvTable(text string, delimiter rune) (Document, error) {
	r := newCSV(text, delimiter)
	r.ReuseRecord = false
	var out writer
	var rows [][]string
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Document{}, reading("CSV", err)
		}
		if err := out.count(len(row)); err != nil {
			return Document{}, err
		}
		rows = append(rows, row)
	}
	out.table(rows)
	return out.document(typeCSV)
}
