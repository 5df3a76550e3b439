package extract

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// unpacked lists the members of an archive as "name: content" or "name! reason".
func unpacked(t *testing.T, content string) []string {
	t.Helper()
	if !IsArchive([]byte(content)) {
		t.Fatal("it is not taken for an archive")
	}
	var got []string
	for m, err := range Members([]byte(content), 1<<20) {
		switch {
		case err != nil:
			got = append(got, "the whole! "+err.Error())
		case m.Refused != nil:
			got = append(got, m.Name+"! "+m.Refused.Error())
		default:
			got = append(got, m.Name+": "+string(m.Content))
		}
	}
	return got
}

func wantMembers(t *testing.T, what, content string, want ...string) {
	t.Helper()
	got := unpacked(t, content)
	if len(got) != len(want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
		return
	}
	for i := range got {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%s: got %q, want %q", what, got[i], want[i])
		}
	}
}

func zstandard(s string) string {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return string(w.EncodeAll([]byte(s), nil))
}

func TestArchivesGiveTheirFiles(t *testing.T) {
	files := map[string]string{"a.txt": "one", "dir/b.md": "two", "dir/.hidden": "x", "__MACOSX/c": "x"}
	want := []string{"a.txt: one", "dir/b.md: two"}
	wantMembers(t, "zip", zipped(files), want...)
	wantMembers(t, "tar", tarred(files), want...)
	wantMembers(t, "tar.gz", gzipped(tarred(files)), want...)
	wantMembers(t, "tar.zst", zstandard(tarred(files)), want...)
	wantMembers(t, "zip in tar", tarred(map[string]string{"in.zip": zipped(files), "z": "last"}), "in.zip/a.txt: one", "in.zip/dir/b.md: two", "z: last")
	wantMembers(t, "an empty one", zipped(nil))
	for what, content := range map[string]string{"gzip of a file": gzipped("words"), "a document": docxOf("", nil), "text": "words"} {
		if IsArchive([]byte(content)) {
			t.Errorf("%s is taken for an archive", what)
		}
	}
}

func TestEntriesThatLeaveTheArchiveAreRefused(t *testing.T) {
	wantMembers(t, "names", zipped(map[string]string{"../up": "x", "/etc/passwd": "x", `c:\x`: "x", `dir\..\..\y`: "x", "a\x00b": "x", "ok": "fine"}),
		"../up! ", "/etc/passwd! ", "a\uFFFDb! ", "c:/x! ", "dir/../../y! ", "ok: fine")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		{Name: "hard", Typeflag: tar.TypeLink, Linkname: "link"},
		{Name: "pipe", Typeflag: tar.TypeFifo},
		{Name: "dir", Typeflag: tar.TypeDir},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	wantMembers(t, "links", b.String(), "link! ", "hard! ", "pipe! ")

	b.Reset()
	z := zip.NewWriter(&b)
	h := &zip.FileHeader{Name: "link"}
	h.SetMode(0o777 | 1<<27) // fs.ModeSymlink
	f, err := z.CreateHeader(h)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("/etc/passwd"))
	z.Close()
	wantMembers(t, "a link in a zip", b.String(), "link! ")
}

func TestNestedArchivesEndAtTheirDepth(t *testing.T) {
	content := "words"
	for range 5 {
		content = zipped(map[string]string{"x": content})
	}
	wantMembers(t, "nested", content, "x/x/x! refused: archives stand more than 3 deep")
}

func TestBombsEndAtTheirLimits(t *testing.T) {
	zeros := strings.Repeat("\x00", 64<<20)
	wantMembers(t, "ratio", gzipped(tarred(map[string]string{"a": zeros})), "a! refused: the file is larger", "the whole! refused: it unpacks to more than 200 times")
	many := map[string]string{}
	for i := range 60 {
		many[string(rune('A'+i))] = zeros[:1<<20]
	}
	got := unpacked(t, zipped(many))
	if last := got[len(got)-1]; !strings.Contains(last, "decompression bombs") || len(got) > 20 {
		t.Errorf("%d members, the last %.100q", len(got), last)
	}
	if _, err := Extract(t.Context(), "a.gz", "", []byte(gzipped(zeros))); err == nil || !strings.Contains(err.Error(), "bombs") {
		t.Errorf("gzip: %v", err)
	}
}

func FuzzArchive(f *testing.F) {
	files := map[string]string{"a.txt": "one", "dir/b.md": "two"}
	for _, seed := range []string{zipped(files), tarred(files), gzipped(tarred(files)), zstandard(tarred(files)), zipped(map[string]string{"x": zipped(files)})} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if !IsArchive(content) {
			return
		}
		for m, err := range Members(content, 1<<20) {
			if err == nil && m.Refused == nil && len(m.Content) > 1<<20 {
				t.Fatalf("%s has %d bytes", m.Name, len(m.Content))
			}
		}
	})
}
