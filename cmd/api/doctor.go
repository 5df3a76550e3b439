package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sys/unix"

	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/decode/gguf"
	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/cuda/device"
)

type doctorCmd struct {
	answerCacheFlags
	CacheMemory string `help:"Memory of all caches together, as the service is given it." default:"512MiB" placeholder:"BYTES"`
	Staging     int    `help:"Tokens of a prompt that snapkv and vote read at once, as the service is given it." default:"4096" placeholder:"TOKENS"`
	JSON        bool   `help:"Print one JSON object."`
}

// The verdicts of a finding.
const (
	good    = "ok"
	warning = "warning"
	failure = "failure"
)

// finding is one thing that the doctor looked at.
type finding struct {
	Check   string `json:"check"`
	Verdict string `json:"verdict"`       // ok, warning or failure
	Detail  string `json:"detail"`        // what was seen
	Fix     string `json:"fix,omitempty"` // what to do, when not ok
}

// Run looks at everything that the service needs; it fails when anything does.
func (c *doctorCmd) Run(ctx context.Context, g *globals) error {
	memory, err := parseBytes("--cache-memory", c.CacheMemory)
	if err != nil {
		return err
	}
	if _, _, err := c.parse(); err != nil {
		return err
	}
	findings := []finding{checkCPU()}
	findings = append(findings, checkGPUs()...)
	findings = append(findings, checkMemory(), checkDisk(g.Data), checkReader(g), checkEmbedder(g), checkResident(g, c.answerCacheFlags, decode.Options{CacheMemory: memory, StagingTokens: c.Staging}))
	findings = append(findings, checkDatabase(ctx, g)...)

	failed := 0
	for _, f := range findings {
		if f.Verdict == failure {
			failed++
		}
	}
	if c.JSON {
		if err := printJSON(map[string]any{"findings": findings, "failures": failed}); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			fmt.Printf("%-8s %-10s %s\n", f.Verdict, f.Check, f.Detail)
			if f.Fix != "" {
				fmt.Printf("%-8s %-10s → %s\n", "", "", f.Fix)
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(findings))
	}
	return nil
}

func checkCPU() finding {
	isa := cpu.Best()
	f := finding{Check: "cpu", Verdict: good, Detail: fmt.Sprintf("%s/%s, %d cores, kernels: %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), isa)}
	if isa == cpu.Portable {
		f.Verdict, f.Fix = warning, "the portable kernels are slow; a CPU with AVX2 or AVX-512 VNNI decodes many times faster"
	}
	return f
}

// checkGPUs reports every card that the driver shows, or why there is none.
func checkGPUs() []finding {
	n, err := device.Count()
	if err != nil {
		return []finding{{Check: "gpu", Verdict: good, Detail: err.Error() + "; decoding on the CPU"}}
	}
	var findings []finding
	for card := range n {
		findings = append(findings, checkGPU(card, device.Open))
	}
	return findings
}

func checkGPU(card int, open func(int) (device.Device, error)) finding {
	d, err := open(card)
	if err != nil {
		return finding{"gpu", warning, fmt.Sprintf("card %d: %v", card, err), "--device cuda goes without it"}
	}
	info, err := d.Info()
	if err = errors.Join(err, d.Close()); err != nil {
		return finding{"gpu", warning, fmt.Sprintf("card %d does not answer: %v", card, err), "restart the driver; decoding on the CPU does not need it"}
	}
	return finding{Check: "gpu", Verdict: good, Detail: fmt.Sprintf("card %d: %v, %s free of %s; --device cuda decodes on it",
		card, info, bytesText(info.Free), bytesText(info.Memory))}
}

func checkMemory() finding {
	total, available := meminfo()
	f := finding{Check: "memory", Verdict: good, Detail: fmt.Sprintf("%s available of %s", bytesText(available), bytesText(total))}
	switch {
	case total == 0:
		f.Verdict, f.Detail = warning, "cannot be read on this system"
	case available < 1<<30:
		f.Verdict, f.Fix = warning, "less than 1 GiB is free: close other programs, or lower --cache-memory"
	}
	return f
}

// meminfo reads the machine's memory in bytes; zeros where there is no /proc.
func meminfo() (total, available int64) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		}
	}
	return total, available
}

func checkDisk(dir string) finding {
	for {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err == nil {
			free := int64(s.Bavail) * int64(s.Bsize)
			f := finding{Check: "disk", Verdict: good, Detail: bytesText(free) + " free for data"}
			if free < 1<<30 {
				f.Verdict, f.Fix = warning, "less than 1 GiB is free: make room, or choose another --data"
			}
			return f
		}
		if dir == "." || dir == "/" || dir == "" {
			return finding{Check: "disk", Verdict: warning, Detail: "free space cannot be read"}
		}
		if i := strings.LastIndexByte(dir, '/'); i > 0 {
			dir = dir[:i]
		} else {
			dir = "."
		}
	}
}

func checkReader(g *globals) finding {
	path, err := g.readerPath()
	if err != nil {
		return finding{"reader", failure, err.Error(), "run `make fetch`, or name a GGUF file with --model"}
	}
	f, err := gguf.Open(path)
	if err != nil {
		return finding{"reader", failure, err.Error(), "fetch the file again, or name another with --model"}
	}
	defer f.Close()
	hash, err := f.Hash()
	if err != nil {
		return finding{"reader", failure, err.Error(), "check the disk"}
	}
	name, _ := f.String("general.name")
	arch, _ := f.String("general.architecture")
	found := finding{Check: "reader", Verdict: good, Detail: fmt.Sprintf("%s (%s), sha256 %.12s, %s", name, arch, hash, path)}
	if arch != "llama" {
		found.Verdict, found.Fix = failure, "this build decodes the llama architecture; name such a model with --model"
	}
	return found
}

// checkResident adds up what the reader will take: its weights, the caches that run at a
// time, what prompts are staged in, and what a pass works in. A card where not all of it is free is refused when it is opened.
func checkResident(g *globals, flags answerCacheFlags, o decode.Options) finding {
	s := &stack{globals: g}
	err := s.openEngine(o)
	var parts resident
	if err == nil {
		var spec cache.Spec
		var budget cache.Budget
		var plan cache.Plan
		info := s.engine.Info()
		var staging int64
		if spec, budget, err = flags.suited(info).parse(); err == nil {
			plan, err = s.engine.Plan(spec, budget)
		}
		if err == nil {
			staging, err = s.engine.StagingBytes(plan)
		}
		parts = resident{cache: strings.TrimSpace(spec.String() + " " + budget.String()), weights: info.WeightBytes, scratch: info.ScratchBytes,
			cacheBytes: plan.Bytes, staging: staging, slots: min(int64(s.engine.Stats().Slots), o.CacheMemory/max(1, plan.Bytes))}
	}
	if err = errors.Join(err, s.close()); err != nil {
		return finding{"resident", failure, err.Error(), "read the message; --model, --cache, --budget, --cache-memory and --staging choose what is taken"}
	}
	if g.Device.cuda {
		f := parts.finding(0)
		f.Detail += ", on each card"
		return f
	}
	_, available := meminfo()
	return parts.finding(available)
}

// resident is the memory of the reader at its most, in bytes.
type resident struct {
	cache                                 string
	weights, cacheBytes, staging, scratch int64
	slots                                 int64 // caches that run at a time
}

func (r resident) finding(available int64) finding {
	total := r.weights + r.slots*r.cacheBytes + r.staging + r.scratch
	f := finding{Check: "resident", Verdict: good, Detail: fmt.Sprintf("weights %s + %d × %s (cache %s) + staging %s + scratch %s = %s at most",
		bytesText(r.weights), r.slots, bytesText(r.cacheBytes), r.cache, bytesText(r.staging), bytesText(r.scratch), bytesText(total))}
	switch {
	case r.slots == 0:
		f.Verdict, f.Fix = failure, "--cache-memory does not hold one answer: raise it, or lower --budget"
	case available > 0 && total > available:
		f.Verdict, f.Fix = warning, fmt.Sprintf("only %s is free: lower --cache-memory or --budget", bytesText(available))
	}
	return f
}

func checkEmbedder(g *globals) finding {
	s := &stack{globals: g}
	if err := errors.Join(s.openEmbedder(), s.close()); err != nil {
		return finding{"embedder", failure, err.Error(), "run `make fetch`, or name a directory with --embedder"}
	}
	return finding{Check: "embedder", Verdict: good, Detail: fmt.Sprintf("%s, %d dimensions", s.embedder.Name(), s.embedder.Dim())}
}

// checkDatabase starts or joins Postgres and reads its versions.
func checkDatabase(ctx context.Context, g *globals) []finding {
	fix := "read the message; `make fetch` brings Postgres, --database-url uses your own"
	s := &stack{globals: g}
	var findings []finding
	err := s.openDatabase(ctx)
	if err == nil {
		findings, err = describeDatabase(ctx, s.pool)
	}
	if err = errors.Join(err, s.close()); err != nil {
		findings = append(findings, finding{"postgres", failure, err.Error(), fix})
	}
	return findings
}

func describeDatabase(ctx context.Context, pool *pgxpool.Pool) ([]finding, error) {
	var server, vector string
	var documents, failed int
	err := pool.QueryRow(ctx, `
		SELECT current_setting('server_version'),
		       (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
		       (SELECT count(*) FROM documents),
		       (SELECT count(*) FROM documents WHERE state = 'failed')`).Scan(&server, &vector, &documents, &failed)
	if err != nil {
		return nil, fmt.Errorf("reading versions: %w", err)
	}
	findings := []finding{
		{Check: "postgres", Verdict: good, Detail: server},
		pgvectorFinding(vector),
		{Check: "documents", Verdict: good, Detail: fmt.Sprintf("%d, of which %d failed", documents, failed)},
	}
	if failed > 0 {
		findings[2].Verdict, findings[2].Fix = warning, "GET /api/v1/documents?state=failed says why each failed; POST …/retry tries again"
	}
	return findings, nil
}

// pgvectorFinding warns of versions with known faults: before 0.8.2 a parallel
// HNSW build can overflow, and 0.8.4 mended more.
func pgvectorFinding(version string) finding {
	f := finding{Check: "pgvector", Verdict: good, Detail: version}
	switch {
	case olderThan(version, 0, 8, 0):
		f.Verdict, f.Fix = failure, "iterative index scans need pgvector 0.8.0 or later: upgrade it"
	case olderThan(version, 0, 8, 2):
		f.Verdict, f.Fix = failure, "parallel HNSW builds can overflow: upgrade to 0.8.4, or set max_parallel_maintenance_workers = 0"
	case olderThan(version, 0, 8, 4):
		f.Verdict, f.Fix = warning, "upgrade to 0.8.4 or later"
	}
	return f
}

// olderThan compares a dotted version with want, part by part.
func olderThan(version string, want ...int) bool {
	parts := strings.Split(version, ".")
	for i, w := range want {
		have := 0
		if i < len(parts) {
			have, _ = strconv.Atoi(parts[i])
		}
		if have != w {
			return have < w
		}
	}
	return false
}
