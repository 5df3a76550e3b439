package extract

import (
	"bytes"
	"compress/gzip"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	typeGzip = "application/gzip"
	typeZstd = "application/zstd"
)

// zstdWindow bounds the memory of the decompressor.
const zstdWindow = 64 << 20

// decompressor opens gzip or zstd. The caller closes it.
func decompressor(kind string, content []byte) (io.ReadCloser, error) {
	if kind == typeGzip {
		r, err := gzip.NewReader(bytes.NewReader(content))
		if err != nil {
			return nil, reading("gzip", err)
		}
		return r, nil
	}
	r, err := zstd.NewReader(bytes.NewReader(content), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, reading("zstd", err)
	}
	return r.IOReadCloser(), nil
}

// decompress gives the one file inside gzip or zstd, and its name.
func decompress(kind, name string, content []byte) (inner []byte, innerName string, err error) {
	r, err := decompressor(kind, content)
	if err != nil {
		return nil, "", err
	}
	defer r.Close()
	inner, err = newMeter(content, maxUnpacked).readAll(r, maxUnpacked)
	if err != nil {
		return nil, "", reading(strings.TrimPrefix(kind, "application/"), err)
	}
	switch ext := strings.ToLower(path.Ext(name)); ext {
	case ".gz", ".zst", ".z":
		name = name[:len(name)-len(ext)]
	case ".tgz", ".tzst":
		name = name[:len(name)-len(ext)] + ".tar"
	}
	return inner, name, nil
}
