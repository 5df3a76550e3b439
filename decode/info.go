package decode

import (
	"lessrag/decode/model"
	"lessrag/decode/passages"
	"lessrag/lesskernels"
)

// Info describes the model of an Engine.
type Info struct {
	Name         string
	Architecture string
	Path         string
	Hash         string // SHA-256 of the file, hexadecimal
	Context      int    // tokens
	Layers       int
	Heads        int // query heads of a layer
	KVHeads      int // of a layer
	HeadDim      int
	Vocab        int
	Parameters   int64
	WeightBytes  int64               // packed, in memory
	StepBytes    int64               // of them, what every pass reads
	TokenTerms   int64               // multiplications with weights of layers for one token
	TokenBytes   int64               // one token in a full cache
	ScratchBytes int64               // of a forward pass, taken once
	Maps         *lesskernels.Header // of the feature maps in use; nil: none
	Math         string
	ISA          string
	Threads      int
}

// Stats is what an Engine is doing now.
type Stats struct {
	Running     int   // sequences with a cache
	Queued      int   // waiting for one
	Slots       int   // sequences that may run at once, if their bytes fit
	CacheMemory int64 // bytes for all caches
	Promised    int64 // bytes of the running sequences' plans
	Kept        int64 // bytes of kept prompt beginnings; they give way to a request
	Desk        int64 // bytes in which prompts are put together from passages, not part of CacheMemory either
	Staging     int64 // bytes of the staging, which are not part of CacheMemory
	Tokens      int64 // produced since the start
	Prompt      int64 // prompt tokens fed since the start
	Reused      int64 // prompt tokens that were not fed: kept from an earlier prompt
	Blended     int64 // prompt tokens that came from stored passages
	Recomputed  int64 // of them, computed anew, in a layer on average
	Unknown     int64 // passages of prompts that were not in the store
	Unwritten   int64 // passages whose file could not be written

	Passages passages.Stats // of the store; zero without one
}

// Info describes the model.
func (e *Engine) Info() Info { return e.info }

// Stats tells what the engine is doing now.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	if e.options.Passages != nil {
		s.Passages = e.options.Passages.Stats()
	}
	s.Running, s.Queued = len(e.running), len(e.waiting)
	s.Promised, s.Kept = s.CacheMemory-e.free-e.kept, e.kept
	return s
}

// Profile is where the time of all passes went so far: zeros without Options.Profile.
func (e *Engine) Profile() model.Profile { return e.clock.Profile() }
