package extract

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	typeZip = "application/zip"
	typeTar = "application/x-tar"
)

// Member is a file of an archive. One that cannot be taken has a reason in place of content.
type Member struct {
	Name    string // path inside the archive, of the archives inside it too: "inner.zip/a.txt"
	Content []byte
	Refused error
}

// IsArchive reports whether content is an archive of files: zip, tar, or a compressed tar. Documents that are
// zips themselves, such as DOCX, are none.
func IsArchive(content []byte) bool {
	switch kind := signature(content); kind {
	case typeZip, typeTar:
		return true
	case typeGzip, typeZstd:
		r, err := decompressor(kind, content)
		if err != nil {
			return false
		}
		defer r.Close()
		head := make([]byte, 512)
		n, _ := io.ReadFull(newMeter(content, maxUnpacked).metered(r), head)
		return isTar(head[:n])
	}
	return false
}

// Members reads the files of an archive one after the other, those of archives inside it included, so that one
// file is in memory at a time. maxFile bounds each. A file that cannot be taken is yielded with its reason and
// the others go on; what ends the whole, such as a bomb or damage, is the last thing yielded, as error.
func Members(content []byte, maxFile int64) iter.Seq2[Member, error] {
	return func(yield func(Member, error) bool) {
		u := &unpacker{yield: yield, meter: newMeter(content, maxArchive), maxFile: maxFile}
		if err := u.archive("", content, 1); err != nil && !errors.Is(err, errEnough) {
			yield(Member{}, err)
		}
	}
}

// errEnough ends the walk when the caller wants no more.
var errEnough = errors.New("enough")

type unpacker struct {
	yield   func(Member, error) bool
	meter   *meter // of the outermost archive: what is inside an inner one counts too
	maxFile int64
	entries int
}

func (u *unpacker) archive(prefix string, content []byte, depth int) error {
	switch kind := signature(content); kind {
	case typeZip:
		return u.zip(prefix, content, depth)
	case typeTar:
		return u.tar(prefix, bytes.NewReader(content), depth)
	default:
		r, err := decompressor(kind, content)
		if err != nil {
			return err
		}
		defer r.Close()
		return u.tar(prefix, u.meter.metered(r), depth)
	}
}

func (u *unpacker) zip(prefix string, content []byte, depth int) error {
	r, err := openZip(content)
	if err != nil {
		return err
	}
	for _, f := range r.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		err := u.entry(prefix, f.Name, f.Mode(), depth, func() ([]byte, error) {
			if f.Flags&1 != 0 {
				return nil, &EncryptedError{typeZip}
			}
			if f.UncompressedSize64 > uint64(u.maxFile) {
				return nil, overLimit("the file is larger than %d MiB", u.maxFile>>20)
			}
			file, err := f.Open()
			if err != nil {
				return nil, err
			}
			defer file.Close()
			return u.meter.readAll(file, u.maxFile)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) tar(prefix string, content io.Reader, depth int) error {
	r := tar.NewReader(content)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return reading("tar", err)
		}
		if h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		err = u.entry(prefix, h.Name, h.FileInfo().Mode(), depth, func() ([]byte, error) {
			if h.Typeflag == tar.TypeLink {
				return nil, errors.New("it is a link, and links are not followed")
			}
			if sparse(h) {
				return nil, errors.New("it is a sparse file, which can be of any size")
			}
			if h.Size > u.maxFile {
				return nil, overLimit("the file is larger than %d MiB", u.maxFile>>20)
			}
			// A plain tar holds its files as they are, so that nothing can multiply; a compressed one is metered outside.
			return io.ReadAll(io.LimitReader(r, u.maxFile+1))
		})
		if err != nil {
			return err
		}
	}
}

// sparse reports whether a file of a tar has holes, which cost the archive nothing.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// entry takes one file. An error it returns ends the archive; those of the file alone are yielded with it.
func (u *unpacker) entry(prefix, name string, mode fs.FileMode, depth int, read func() ([]byte, error)) error {
	if u.entries++; u.entries > maxEntries {
		return overLimit("the archive has more than %d entries", maxEntries)
	}
	if hidden(name) {
		return nil
	}
	label := prefix + storedName(name)
	if err := checkEntry(name, mode); err != nil {
		return u.give(Member{Name: label, Refused: err})
	}
	content, err := read()
	if over := u.meter.add(0); over != nil {
		return over
	}
	if err != nil {
		return u.give(Member{Name: label, Refused: reading("the entry", err)})
	}
	if !IsArchive(content) {
		return u.give(Member{Name: label, Content: content})
	}
	if depth == maxNesting {
		return u.give(Member{Name: label, Refused: overLimit("archives stand more than %d deep inside each other", maxNesting)})
	}
	err = u.archive(label+"/", content, depth+1)
	switch {
	case err == nil || errors.Is(err, errEnough):
		return err
	case u.meter.add(0) != nil || u.entries > maxEntries:
		return err
	}
	return u.give(Member{Name: label, Refused: err})
}

func (u *unpacker) give(m Member) error {
	if !u.yield(m, nil) {
		return errEnough
	}
	return nil
}

// checkEntry refuses names that would leave a directory, and what is no file. Nothing is ever written by such a
// name; it is refused because who made it had something in mind.
func checkEntry(name string, mode fs.FileMode) error {
	slashed := strings.ReplaceAll(name, `\`, "/")
	switch {
	case !utf8.ValidString(name):
		return errors.New("its name is not valid UTF-8")
	case strings.ContainsRune(name, 0):
		return errors.New("its name contains a NUL")
	case strings.HasPrefix(slashed, "/") || len(name) > 1 && name[1] == ':':
		return errors.New("its name is an absolute path")
	case slices.Contains(strings.Split(slashed, "/"), ".."):
		return errors.New("its name has .. in it and would leave the archive")
	case mode&fs.ModeSymlink != 0:
		return errors.New("it is a symbolic link, and links are not followed")
	case !mode.IsRegular():
		return fmt.Errorf("it is no file but %s", mode.Type())
	}
	return nil
}

// hidden reports whether an entry is one that archivers add and nobody means, or is hidden.
func hidden(name string) bool {
	slashed := strings.ReplaceAll(name, `\`, "/")
	for part := range strings.SplitSeq(slashed, "/") {
		if part == "__MACOSX" || len(part) > 1 && part[0] == '.' && part != ".." {
			return true
		}
	}
	return path.Base(slashed) == "Thumbs.db"
}

// storedName is a name that can be stored and shown: valid, without control characters.
func storedName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(strings.ReplaceAll(name, `\`, "/"), "\uFFFD"))
	if strings.TrimSpace(name) == "" {
		return "unnamed"
	}
	return short(name, 512)
}
