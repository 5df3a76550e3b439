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
	Device       string // of the engine that was asked: "CPU", or "card 0 (NVIDIA H100)"
	ISA          string
	Threads      int
	CacheMemory  int64 // bytes for all caches of a device
}

// Stats is what an Engine is doing now, on all of its devices.
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

// DeviceStats is what one device of an Engine is doing now.
type DeviceStats struct {
	Stats              // but Queued: requests wait for any device
	Device      string // as in Info
	WeightBytes int64  // on it
	Lost        error  // nil: it is there
}

// Devices tells what each device is doing now.
func (e *Engine) Devices() []DeviceStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []DeviceStats
	for _, e := range e.all {
		d := DeviceStats{Stats: e.stats, Device: e.info.Device, WeightBytes: e.info.WeightBytes, Lost: e.lost}
		d.Running, d.Kept, d.Promised = len(e.running), e.kept, d.CacheMemory-e.free-e.kept
		all = append(all, d)
	}
	return all
}

// Stats tells what the engine is doing now.
func (e *Engine) Stats() Stats {
	var sum Stats
	for _, d := range e.Devices() {
		sum.add(d.Stats)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	sum.Queued = len(e.waiting)
	if e.options.Passages != nil {
		sum.Passages = e.options.Passages.Stats()
	}
	return sum
}

func (s *Stats) add(d Stats) {
	s.Running += d.Running
	s.Slots += d.Slots
	s.CacheMemory += d.CacheMemory
	s.Promised += d.Promised
	s.Kept += d.Kept
	s.Desk += d.Desk
	s.Staging += d.Staging
	s.Tokens += d.Tokens
	s.Prompt += d.Prompt
	s.Reused += d.Reused
	s.Blended += d.Blended
	s.Recomputed += d.Recomputed
	s.Unknown += d.Unknown
	s.Unwritten += d.Unwritten
}

// Profile is where the time of all passes went so far: zeros without Options.Profile.
func (e *Engine) Profile() model.Profile { return e.clock.Profile() }
