package bench

import (
	"math"
	"os/exec"
	"strings"
	"testing"
)

// The pipeline's slices are asked for by their paths, and one that finds nothing is an error.
func TestPipelineProtocol(t *testing.T) {
	p, err := startPeer(exec.Command("sh", "-c", `read line; echo '{"name": "a pipeline"}'; read line
		[ "$line" = '{"paths":["a.html","b.html"]}' ] && echo '{"seconds": 4, "embed_seconds": 3, "store_seconds": 0.5, "chunks": 6}' || echo "{\"error\": \"another request\"}"
		read line; echo '{"seconds": 1, "chunks": 0}'`), pipelineSetup{Tokens: 200, Overlap: 30})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got, err := p.take([]string{"a.html", "b.html"}); err != nil || got != (sliceReply{4, 3, 0.5, 6}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := p.take([]string{"c.html"}); err == nil || !strings.Contains(err.Error(), "0 chunks") {
		t.Errorf("no chunks: %v", err)
	}
}

func TestPipelineRatios(t *testing.T) {
	all := []Slice{{Seconds: 2, Chunks: 10, PeerSeconds: 8, PeerChunks: 5, PeerStoring: 2}, {Seconds: 1, Chunks: 4, PeerSeconds: 3, PeerChunks: 4, PeerStoring: 1},
		{Seconds: 1, Chunks: 4, PeerSeconds: 1, PeerChunks: 1, PeerStoring: 0.5, Others: 0.5}}
	var p Pipeline
	p.compare(all)
	if p.Ratio != 3 || p.ChunkRatio != 4 || p.PureRatio != 2 {
		t.Errorf("got %+v", p)
	}
	d := Documents{Documents: 30, Chunks: 60, Bytes: 5e6, Seconds: 10, Embedding: 9}
	if d.DocumentRate() != 3 || d.ChunkRate() != 6 || !(math.Abs(d.ByteRate()-0.5) < 1e-9) || !(math.Abs(d.Share()-0.9) < 1e-9) {
		t.Errorf("%v, %v, %v, %v", d.DocumentRate(), d.ChunkRate(), d.ByteRate(), d.Share())
	}
}
