package passages

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
)

// some is a passage of n tokens, whose numbers tell the seed.
func some(seed uint64, n int) *Passage {
	random := rand.New(rand.NewPCG(seed, 1))
	p := &Passage{Tokens: n, First: 7, Heads: make([]Head, 3)}
	for i := range p.Heads {
		for range n * 4 {
			p.Heads[i].K = append(p.Heads[i].K, uint16(random.Uint32()))
			p.Heads[i].V = append(p.Heads[i].V, uint16(random.Uint32()))
		}
	}
	p.Heads[1].Positions, p.Heads[1].State, p.Heads[1].Absorbed = []int32{1, 5}, []float32{0.5, -2, 3}, 11
	return p
}

func key(tenant string, i int) Key {
	return NewKey("model", tenant, "kv", []int32{1, 2}, []int32{int32(i)})
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Store, k Key, p *Passage) {
	t.Helper()
	if err := s.Put(k, p); err != nil {
		t.Fatal(err)
	}
}

// Everything that makes another key is part of it, and lists do not run together.
func TestKey(t *testing.T) {
	keys := map[Key]string{}
	for _, k := range []struct {
		model, tenant, kind string
		head, tokens        []int32
	}{
		{"m", "t", "k", []int32{1}, []int32{2, 3}},
		{"n", "t", "k", []int32{1}, []int32{2, 3}},
		{"m", "u", "k", []int32{1}, []int32{2, 3}},
		{"m", "t", "l", []int32{1}, []int32{2, 3}},
		{"m", "t", "k", []int32{1, 2}, []int32{3}},
		{"m", "t", "k", []int32{1}, []int32{2, 4}},
		{"mt", "", "k", []int32{1}, []int32{2, 3}},
	} {
		name := fmt.Sprint(k)
		made := NewKey(k.model, k.tenant, k.kind, k.head, k.tokens)
		if other, ok := keys[made]; ok {
			t.Errorf("%s has the key of %s", name, other)
		}
		keys[made] = name
	}
}

// What is put is got again: from memory, from disk, and by the next process.
func TestTiers(t *testing.T) {
	dir := t.TempDir()
	size := some(0, 10).Bytes()
	s := open(t, Options{Memory: 2 * size, Disk: 100 * size, Dir: dir})
	for i := range 5 {
		put(t, s, key("a", i), some(uint64(i), 10))
	}
	if got := s.Stats(); got.Passages != 2 || got.Files != 5 || got.MemoryBytes != 2*size {
		t.Fatalf("%+v", got)
	}
	for i := range 5 {
		if got := s.Get(key("a", i)); !reflect.DeepEqual(got, some(uint64(i), 10)) {
			t.Errorf("passage %d came back otherwise", i)
		}
	}
	if s.Get(key("b", 0)) != nil || s.Has(key("b", 0)) {
		t.Error("another tenant finds the passage")
	}
	if got := s.Stats(); got.Hits != 5 || got.DiskHits < 3 || got.Misses != 1 || got.MemoryBytes > 2*size {
		t.Errorf("%+v", got)
	}
	again := open(t, Options{Memory: 100 * size, Disk: 100 * size, Dir: dir})
	if got := again.Get(key("a", 3)); !reflect.DeepEqual(got, some(3, 10)) {
		t.Error("the next process does not find a passage")
	}
	put(t, again, key("b", 1), some(9, 10))
	if err := again.Forget("a"); err != nil {
		t.Fatal(err)
	}
	if again.Get(key("a", 3)) != nil || again.Get(key("b", 1)) == nil {
		t.Error("not the tenant's passages were forgotten, or not only them")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
}

// Both tiers stay under their caps, and what was used last stays.
func TestCaps(t *testing.T) {
	dir := t.TempDir()
	size := some(0, 10).Bytes()
	s := open(t, Options{Memory: 3 * size, Disk: 4*size + size/2 + 8000, Dir: dir})
	limit := s.Stats().DiskLimit
	for i := range 20 {
		put(t, s, key("a", i), some(uint64(i), 10))
		s.Get(key("a", 0))
		if got := s.Stats(); got.MemoryBytes > 3*size || got.DiskBytes > limit {
			t.Fatalf("after %d: %+v", i, got)
		}
	}
	if s.Get(key("a", 0)) == nil || s.Get(key("a", 19)) == nil || s.Get(key("a", 2)) != nil {
		t.Error("not the least recently used were given up")
	}
	var total int64
	files, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total != s.Stats().DiskBytes {
		t.Errorf("%d bytes on disk, counted %d", total, s.Stats().DiskBytes)
	}
	put(t, s, key("a", 99), some(1, 1000)) // beyond both caps alone
	if got := s.Stats(); got.MemoryBytes > 3*size || got.DiskBytes > limit || s.Has(key("a", 99)) {
		t.Errorf("a passage beyond the caps was stored: %+v", got)
	}
	if got := open(t, Options{Memory: size, Disk: 2*size + 4000, Dir: dir}).Stats(); got.DiskBytes > got.DiskLimit || got.Files == 0 {
		t.Errorf("opened with a smaller cap: %+v", got)
	}
}

// A file that any byte was changed or cut off in is noticed, dropped and missed.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	k := key("a", 1)
	put(t, open(t, Options{Disk: 1 << 20, Dir: dir}), k, some(1, 10))
	path := filepath.Join(dir, k.tenant, k.name+extension)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	harms := map[string][]byte{"cut off": whole[:len(whole)-9], "empty": {}, "longer": append(append([]byte{}, whole...), 0)}
	for at := 0; at < len(whole); at += 37 {
		content := append([]byte{}, whole...)
		content[at] ^= 4
		harms[fmt.Sprintf("byte %d", at)] = content
	}
	other, err := encode(key("a", 2).name, some(2, 10))
	if err != nil {
		t.Fatal(err)
	}
	harms["another passage"] = other
	for name, content := range harms {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, Options{Memory: 1 << 20, Disk: 1 << 20, Dir: dir})
		if s.Get(k) != nil || s.Stats().Damaged != 1 || s.Has(k) {
			t.Errorf("%s: not noticed", name)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: the file is still there", name)
		}
	}
}

// Many at a time read, write and forget; what they get is whole.
func TestConcurrency(t *testing.T) {
	size := some(0, 10).Bytes()
	s := open(t, Options{Memory: 4 * size, Disk: 9 * size, Dir: t.TempDir()})
	want := make([]*Passage, 16)
	for i := range want {
		want[i] = some(uint64(i), 10)
	}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 2))
			for range 200 {
				i := random.IntN(len(want))
				switch random.IntN(10) {
				case 0:
					if err := s.Forget("a"); err != nil {
						t.Error(err)
					}
				case 1, 2, 3:
					s.Put(key("a", i), want[i]) // its directory may be forgotten meanwhile
				default:
					if p := s.Get(key("a", i)); p != nil && !reflect.DeepEqual(p, want[i]) {
						t.Errorf("passage %d came back otherwise", i)
					}
				}
			}
		})
	}
	all.Wait()
	if got := s.Stats(); got.MemoryBytes > got.MemoryLimit || got.DiskBytes > got.DiskLimit || got.Damaged > 0 {
		t.Errorf("%+v", got)
	}
}
