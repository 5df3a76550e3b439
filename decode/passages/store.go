package passages

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options of a Store.
type Options struct {
	Memory int64  // bytes of passages in memory at most
	Disk   int64  // bytes of files at most; 0: none are written
	Dir    string // of the files; "" where there is no disk tier
}

// Store keeps passages in two tiers, each under a cap of bytes and least recently
// used first to go: memory, and files that outlive the process. All methods are safe
// for concurrent use.
type Store struct {
	dir   string
	files sync.RWMutex // whoever writes a file reads it, Forget writes it

	mu     sync.Mutex // guards what follows; no file is touched under it
	memory lru[*Passage]
	disk   lru[struct{}]
	stats  Stats
}

// Stats are what a Store holds, and what was asked of it since it was opened.
type Stats struct {
	Passages, Files        int   // in memory, on disk
	MemoryBytes, DiskBytes int64 // held
	MemoryLimit, DiskLimit int64
	Hits, DiskHits, Misses int64 // of Get; DiskHits are those of Hits that were read from a file
	Damaged                int64 // files that were dropped because their sum was wrong
}

const extension = ".passage"

// Open makes a store and finds the files that are there. Files that are beyond the
// cap are removed.
func Open(o Options) (*Store, error) {
	if o.Memory < 0 || o.Disk < 0 {
		return nil, fmt.Errorf("a store of passages with %d bytes of memory and %d of disk", o.Memory, o.Disk)
	}
	if o.Dir == "" {
		o.Disk = 0
	}
	s := &Store{dir: o.Dir, memory: newLRU[*Passage](o.Memory), disk: newLRU[struct{}](o.Disk)}
	if o.Disk == 0 {
		return s, nil
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the store of passages: %w", err)
	}
	return s, s.scan()
}

// scan takes the files of an earlier process into the index, the oldest first.
func (s *Store) scan() error {
	type found struct {
		key   Key
		bytes int64
		at    time.Time
	}
	var all []found
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, ok := strings.CutSuffix(d.Name(), extension)
		if !ok {
			if strings.Contains(d.Name(), extension+".") { // of a write that was cut off
				return os.Remove(path)
			}
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			all = append(all, found{Key{filepath.Base(filepath.Dir(path)), name}, info.Size(), info.ModTime()})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("open the store of passages: %w", err)
	}
	slices.SortFunc(all, func(a, b found) int { return a.at.Compare(b.at) })
	for _, f := range all {
		s.remove(s.disk.put(f.key, struct{}{}, f.bytes))
	}
	return nil
}

func (s *Store) path(k Key) string { return filepath.Join(s.dir, k.tenant, k.name+extension) }

func (s *Store) remove(keys []Key) {
	for _, k := range keys {
		os.Remove(s.path(k)) // one that is gone already is as good
	}
}

// Has tells whether a passage is there, without using it.
func (s *Store) Has(k Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory.items[k] != nil || s.disk.items[k] != nil
}

// Get is a stored passage, nil where there is none. What is found on disk is
// checked and taken into memory; a damaged file is removed.
func (s *Store) Get(k Key) *Passage {
	s.mu.Lock()
	p, hit := s.memory.get(k)
	_, filed := s.disk.get(k)
	switch {
	case hit:
		s.stats.Hits++
	case !filed:
		s.stats.Misses++
	}
	s.mu.Unlock()
	if hit || !filed {
		return p
	}
	p, err := s.read(k)
	damaged := errors.Is(err, ErrDamaged)
	if damaged {
		os.Remove(s.path(k))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.stats.Misses++
		s.disk.drop(k)
		if damaged {
			s.stats.Damaged++
		}
		return nil
	}
	s.stats.Hits++
	s.stats.DiskHits++
	if s.disk.items[k] != nil { // it was not forgotten meanwhile
		s.memory.put(k, p, p.Bytes())
	}
	return p
}

func (s *Store) read(k Key) (*Passage, error) {
	content, err := os.ReadFile(s.path(k))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	os.Chtimes(s.path(k), now, now) // the order of use outlives the process; best effort
	return decode(k.name, content)
}

// Put stores a passage, which must not be changed afterwards. It is in memory
// whatever the error, which is that of writing its file.
func (s *Store) Put(k Key, p *Passage) error {
	s.mu.Lock()
	s.memory.put(k, p, p.Bytes())
	filed := s.disk.items[k] != nil
	write := s.disk.cap > 0 && !filed
	s.mu.Unlock()
	if !write {
		return nil
	}
	content, err := encode(k.name, p)
	if err == nil && int64(len(content)) <= s.disk.cap {
		err = s.write(k, content)
	}
	if err != nil {
		return fmt.Errorf("store a passage: %w", err)
	}
	return nil
}

// write puts a file in its place whole, and removes those that it displaces.
func (s *Store) write(k Key, content []byte) (err error) {
	s.files.RLock()
	defer s.files.RUnlock()
	path := s.path(k)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = cmp.Or(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	s.mu.Lock()
	gone := s.disk.put(k, struct{}{}, int64(len(content)))
	s.mu.Unlock()
	s.remove(gone)
	return nil
}

// Forget removes all that is stored for a tenant: its texts can be told from what
// was computed of them.
func (s *Store) Forget(tenant string) error {
	name := tenantName(tenant)
	s.files.Lock()
	defer s.files.Unlock()
	s.mu.Lock()
	for k := range s.memory.items {
		if k.tenant == name {
			s.memory.drop(k)
		}
	}
	for k := range s.disk.items {
		if k.tenant == name {
			s.disk.drop(k)
		}
	}
	s.mu.Unlock()
	if s.disk.cap == 0 {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
		return fmt.Errorf("forget the passages of %q: %w", tenant, err)
	}
	return nil
}

// Stats tells what the store holds.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.stats
	t.Passages, t.Files = len(s.memory.items), len(s.disk.items)
	t.MemoryBytes, t.DiskBytes = s.memory.bytes, s.disk.bytes
	t.MemoryLimit, t.DiskLimit = s.memory.cap, s.disk.cap
	return t
}
