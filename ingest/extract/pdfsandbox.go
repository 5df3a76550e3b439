package extract

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/klippa-app/go-pdfium"
	"github.com/klippa-app/go-pdfium/webassembly"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// pdfMemoryPages bounds the memory of PDFium for one document: 256 MiB, in pages of 64 KiB.
const pdfMemoryPages = 256 << 20 >> 16

// pdfSandbox runs PDFium as WebAssembly: it sees the bytes of its document and nothing else, no file, no
// network, no clock of ours. It is compiled when the first PDF comes (some seconds, kept in the user's cache
// directory for the next process), and every document gets an instance of its own.
var pdfSandbox sandbox

type sandbox struct {
	mu     sync.Mutex
	pool   pdfium.Pool
	memory *pdfMemory // of the instance made last
}

// instance makes an instance. Its memory is to be released when it is closed and its last call has returned.
func (s *sandbox) instance(ctx context.Context) (pdfium.Pdfium, *pdfMemory, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pool == nil {
		pool, err := webassembly.Init(webassembly.Config{
			Context:  s.withMemory(context.Background()),
			MaxTotal: 64, // more than any number of workers; they bound it
			// Without a value the whole file system would be mounted.
			FSConfig: wazero.NewFSConfig(), Stdout: io.Discard, Stderr: io.Discard,
			RuntimeConfig: pdfRuntime(),
		})
		if err != nil {
			return nil, nil, fmt.Errorf("start PDFium: %w", err)
		}
		s.pool = pool
	}
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	instance, err := s.pool.GetInstanceWithContext(limit)
	memory := s.memory
	s.memory = nil
	if err != nil {
		memory.release()
		return nil, nil, err
	}
	return instance, memory, nil
}

func pdfRuntime() wazero.RuntimeConfig {
	c := wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesExceptionHandling).
		WithCloseOnContextDone(true). // or a document that loops could not be ended
		WithMemoryLimitPages(pdfMemoryPages)
	home, err := os.UserCacheDir()
	if err != nil {
		return c // it is compiled anew in every process
	}
	cache, err := wazero.NewCompilationCacheWithDir(filepath.Join(home, "lessrag", "pdfium"))
	if err != nil {
		return c
	}
	return c.WithCompilationCache(cache)
}
