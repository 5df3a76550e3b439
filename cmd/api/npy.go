package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// maxRow bounds a row of token ids.
const maxRow = 1 << 24

var npyShape = regexp.MustCompile(`'shape':\s*\((\d+),\s*(\d*)\s*,?\s*\)`)

// readRow reads one row of a two-dimensional (or all of a one-dimensional)
// little-endian int32 array in NumPy's format, version 1 or 2.
func readRow(r io.Reader, row int) ([]int32, error) {
	in := bufio.NewReader(r)
	header, err := npyHeader(in)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(header, "'descr': '<i4'") || !strings.Contains(header, "'fortran_order': False") {
		return nil, errors.New("must be int32 in row order: np.save(…, ids.astype(np.int32))")
	}
	match := npyShape.FindStringSubmatch(header)
	if match == nil {
		return nil, errors.New("must have one or two dimensions")
	}
	rows, cols := match[1], match[2]
	if cols == "" {
		rows, cols = "1", match[1]
	}
	n, err := strconv.Atoi(rows)
	if err != nil || row < 0 || row >= n {
		return nil, fmt.Errorf("has rows 0 to %s-1, not %d", rows, row)
	}
	length, err := strconv.Atoi(cols)
	if err != nil || length < 1 || length > maxRow {
		return nil, fmt.Errorf("a row must have 1 to %d ids, has %s", maxRow, cols)
	}
	if _, err := io.CopyN(io.Discard, in, int64(row)*int64(length)*4); err != nil {
		return nil, fmt.Errorf("is cut short before row %d", row)
	}
	ids := make([]int32, length)
	if err := binary.Read(in, binary.LittleEndian, ids); err != nil {
		return nil, fmt.Errorf("is cut short in row %d", row)
	}
	return ids, nil
}

func npyHeader(in io.Reader) (string, error) {
	var start [8]byte
	if _, err := io.ReadFull(in, start[:]); err != nil || string(start[:6]) != "\x93NUMPY" {
		return "", errors.New("is not a NumPy file")
	}
	var size uint32
	switch start[6] {
	case 1:
		var short uint16
		if err := binary.Read(in, binary.LittleEndian, &short); err != nil {
			return "", errors.New("is cut short in its header")
		}
		size = uint32(short)
	case 2:
		if err := binary.Read(in, binary.LittleEndian, &size); err != nil {
			return "", errors.New("is cut short in its header")
		}
	default:
		return "", fmt.Errorf("has format version %d; 1 and 2 are read", start[6])
	}
	if size > 1<<16 {
		return "", fmt.Errorf("has a header of %d bytes", size)
	}
	header := make([]byte, size)
	if _, err := io.ReadFull(in, header); err != nil {
		return "", errors.New("is cut short in its header")
	}
	return string(header), nil
}
