package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"lessrag/ingest"
)

// Documents is how fast documents come in, and how fast a plain pipeline takes the same ones. Ours and the peer's slices
// take turns.
type Documents struct {
	Documents  int       `json:"documents"`
	Ready      int       `json:"ready"`
	Failed     int       `json:"failed"`
	Chunks     int       `json:"chunks"`
	Bytes      int64     `json:"bytes"` // as handed in
	Seconds    float64   `json:"seconds"`
	Embedding  float64   `json:"embed_seconds"` // of them, with a pass of the embedder running
	Processor  float64   `json:"processor_seconds"`
	Others     float64   `json:"other_processor_seconds"` // of Postgres, and of whatever else ran
	Again      float64   `json:"again_seconds"`           // the same documents once more, unchanged
	AgainEmbed float64   `json:"again_embed_seconds"`     // of them in the embedder
	Slices     []Slice   `json:"slices"`
	Peer       *Pipeline `json:"peer,omitempty"`
}

// Slice is some of the documents, one side after the other.
type Slice struct {
	Documents   int     `json:"documents"`
	Seconds     float64 `json:"seconds"`
	Chunks      int     `json:"chunks"`
	PeerSeconds float64 `json:"peer_seconds,omitempty"`
	PeerStoring float64 `json:"peer_store_seconds,omitempty"` // of them
	PeerChunks  int     `json:"peer_chunks,omitempty"`
	Others      float64 `json:"others"` // share of the machine that other programs took, Postgres among them; beside either side the larger one
}

// Pipeline is what the peer did with the same documents.
type Pipeline struct {
	Name       string  `json:"name"`
	Seconds    float64 `json:"seconds"`
	Embedding  float64 `json:"embed_seconds"`
	Storing    float64 `json:"store_seconds"`
	Chunks     int     `json:"chunks"`
	Ratio      float64 `json:"ratio"`       // of seconds for a slice, the peer's to ours, median
	ChunkRatio float64 `json:"chunk_ratio"` // likewise of seconds for a chunk
	PureRatio  float64 `json:"pure_ratio"`  // likewise of seconds for a slice, the peer's without storing
}

// DocumentRate is how many documents come in within a second.
func (d Documents) DocumentRate() float64 { return float64(d.Documents) / d.Seconds }

// ChunkRate is how many of their chunks.
func (d Documents) ChunkRate() float64 { return float64(d.Chunks) / d.Seconds }

// ByteRate is their size in MB a second.
func (d Documents) ByteRate() float64 { return float64(d.Bytes) / 1e6 / d.Seconds }

// Share is the part of the time in which the embedder computes.
func (d Documents) Share() float64 { return d.Embedding / d.Seconds }

// Ingestion is what takes documents in: ingest.Service.
type Ingestion interface {
	Submit(ctx context.Context, collection string, files []ingest.File) (ingest.Submission, error)
	Ingestion(ctx context.Context, id string) (ingest.Progress, error)
	Embedding() time.Duration
}

// pipelineSetup is the first line to documents.py.
type pipelineSetup struct {
	Model    string `json:"model"`
	Threads  int    `json:"threads"`
	Database string `json:"database"`
	Tokens   int    `json:"tokens"`
	Overlap  int    `json:"overlap"`
}

// OpenPipeline starts the plain pipeline with a Python that has its libraries. Windows have the sizes that ours have
// where a collection does not say otherwise.
func OpenPipeline(ctx context.Context, python, model, database string, threads int) (*Peer, error) {
	return openPython(ctx, python, "documents.py", pipelineSetup{model, threads, database, 200, 30})
}

// MeasureDocuments takes the files of paths in, a slice at a time, and has the peer, if there is one, do the same with
// each slice right after. In the end it hands all of them in again.
func MeasureDocuments(ctx context.Context, s Ingestion, peer *Peer, paths []string, slice int, progress io.Writer) (*Documents, error) {
	d := &Documents{}
	if peer != nil {
		d.Peer = &Pipeline{Name: peer.name}
	}
	for first := 0; first < len(paths); first += slice {
		part := paths[first:min(first+slice, len(paths))]
		one, err := d.take(ctx, s, part)
		if err != nil {
			return nil, err
		}
		if peer != nil {
			used, machine, began := peer.Used(), readProcessors(), time.Now()
			reply, err := peer.take(part)
			if err != nil {
				return nil, err
			}
			d.Peer.add(reply)
			one.PeerSeconds, one.PeerStoring, one.PeerChunks = reply.Seconds, reply.Storing, reply.Chunks
			one.Others = max(one.Others, readProcessors().share(machine, peer.Used()-used, time.Since(began)))
		}
		d.Slices = append(d.Slices, one)
		fmt.Fprintf(progress, "%d of %d documents: %.1f s, %d chunks; the peer %.1f s, %d chunks; others took %.0f%%\n",
			first+len(part), len(paths), one.Seconds, one.Chunks, one.PeerSeconds, one.PeerChunks, 100*one.Others)
	}
	if peer != nil {
		d.Peer.compare(d.Slices)
	}
	return d, d.again(ctx, s, paths)
}

const documentsCollection = "documents"

// take hands a slice in and waits for all of it.
func (d *Documents) take(ctx context.Context, s Ingestion, paths []string) (Slice, error) {
	began, embedding, used, machine := time.Now(), s.Embedding(), usedBy(os.Getpid()), readProcessors()
	p, bytes, err := handIn(ctx, s, paths)
	if err != nil {
		return Slice{}, err
	}
	one := Slice{Documents: p.Total, Seconds: time.Since(began).Seconds()}
	for _, document := range p.Documents {
		one.Chunks += document.Chunks
	}
	own := (usedBy(os.Getpid()) - used).Seconds()
	one.Others = readProcessors().share(machine, time.Duration(own*float64(time.Second)), time.Since(began))
	d.Documents, d.Ready, d.Failed = d.Documents+p.Total, d.Ready+p.Ready, d.Failed+p.Failed
	d.Chunks, d.Bytes, d.Seconds = d.Chunks+one.Chunks, d.Bytes+bytes, d.Seconds+one.Seconds
	d.Embedding += (s.Embedding() - embedding).Seconds()
	d.Processor += own
	d.Others += max(0, (readProcessors().busy-machine.busy)/ticks-own)
	return one, nil
}

// again hands everything in once more, which must find all of it there.
func (d *Documents) again(ctx context.Context, s Ingestion, paths []string) error {
	began, embedding := time.Now(), s.Embedding()
	if _, _, err := handIn(ctx, s, paths); err != nil {
		return err
	}
	d.Again, d.AgainEmbed = time.Since(began).Seconds(), (s.Embedding() - embedding).Seconds()
	return nil
}

// handIn submits files, and returns when none is pending.
func handIn(ctx context.Context, s Ingestion, paths []string) (p ingest.Progress, bytes int64, err error) {
	files := make([]ingest.File, len(paths))
	for i, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return p, 0, err
		}
		files[i] = ingest.File{Name: filepath.ToSlash(path), Content: content}
		bytes += int64(len(content))
	}
	done, err := s.Submit(ctx, documentsCollection, files)
	if err != nil {
		return p, 0, err
	}
	for {
		if p, err = s.Ingestion(ctx, done.IngestionID); err != nil || p.Pending == 0 {
			return p, bytes, err
		}
		select {
		case <-ctx.Done():
			return p, 0, ctx.Err()
		case <-time.After(200 * time.Millisecond): // as often as `api ingest` looks
		}
	}
}

// sliceReply is what the pipeline says of a slice.
type sliceReply struct {
	Seconds   float64
	Embedding float64 `json:"embed_seconds"`
	Storing   float64 `json:"store_seconds"`
	Chunks    int
}

// take has the pipeline work on a slice.
func (p *Peer) take(paths []string) (sliceReply, error) {
	var reply sliceReply
	err := p.ask(struct {
		Paths []string `json:"paths"`
	}{paths}, &reply)
	if err == nil && !(reply.Seconds > 0 && reply.Chunks > 0) {
		err = fmt.Errorf("%s made %d chunks in %.3f s", p.name, reply.Chunks, reply.Seconds)
	}
	return reply, err
}

func (p *Pipeline) add(r sliceReply) {
	p.Seconds, p.Embedding, p.Storing, p.Chunks = p.Seconds+r.Seconds, p.Embedding+r.Embedding, p.Storing+r.Storing, p.Chunks+r.Chunks
}

// compare computes the ratios, over all slices: what Postgres does for one side cannot be
// told from what disturbs it. Above 1 we are better.
func (p *Pipeline) compare(slices []Slice) {
	var whole, chunk, pure []float64
	for _, s := range slices {
		whole = append(whole, s.PeerSeconds/s.Seconds)
		chunk = append(chunk, s.PeerSeconds/float64(s.PeerChunks)/(s.Seconds/float64(s.Chunks)))
		pure = append(pure, (s.PeerSeconds-s.PeerStoring)/s.Seconds)
	}
	p.Ratio, p.ChunkRatio, p.PureRatio = median(whole), median(chunk), median(pure)
}
