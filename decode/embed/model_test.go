package embed

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/vectortest"
)

// TestEmbedReference holds all 200 vectors against sentence-transformers'.
func TestEmbedReference(t *testing.T) {
	m := openModel(t)
	texts := fixtureTexts(t)
	want := vectortest.Unzip(t, "testdata/vectors.f32.gz")
	if len(want) != len(texts)*m.Dim()*4 {
		t.Fatalf("fixture of %d bytes", len(want))
	}
	got, err := m.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	worst, worstText := 1.0, 0
	for i, v := range got {
		var dot, own, ref float64
		for j, x := range v {
			y := float64(math.Float32frombits(binary.LittleEndian.Uint32(want[(i*m.Dim()+j)*4:])))
			dot, own, ref = dot+float64(x)*y, own+float64(x)*float64(x), ref+y*y
		}
		cosine := dot / math.Sqrt(own*ref)
		if !(cosine >= 0.9999) || !(math.Abs(own-1) <= 1e-5) {
			t.Errorf("text %d %.60q: cosine %.6f, squared length %.6f", i, texts[i], cosine, own)
		}
		if cosine < worst {
			worst, worstText = cosine, i
		}
	}
	t.Logf("lowest cosine of %d texts: 1 − %.1e (text %d)", len(texts), 1-worst, worstText)
}

// TestEmbedAlone holds a text's vector in a batch against the one it gets alone.
func TestEmbedAlone(t *testing.T) {
	m := openModel(t)
	texts := fixtureTexts(t)[100:140]
	batch, err := m.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		alone, err := m.Embed(t.Context(), []string{text})
		if err != nil {
			t.Fatal(err)
		}
		for j := range alone[0] {
			if d := math.Abs(float64(alone[0][j] - batch[i][j])); !(d <= 1e-5) {
				t.Fatalf("text %d value %d: %g alone, %g in a batch", i, j, alone[0][j], batch[i][j])
			}
		}
	}
}

func TestEmbedNothing(t *testing.T) {
	if got, err := openModel(t).Embed(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("no texts: %v, %v", got, err)
	}
}

func TestEmbedConcurrently(t *testing.T) {
	m := openModel(t)
	texts := []string{"one", "two words", "three short words"}
	want, err := m.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			got, err := m.Embed(t.Context(), texts)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range got {
				if d := cpu.Dot(got[i], want[i]); !(d >= 0.99999) {
					t.Errorf("text %d: cosine %g to the same text", i, d)
				}
			}
		})
	}
	group.Wait()
}

func TestEmbedCancelled(t *testing.T) {
	m := openModel(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Embed(ctx, []string{"text"}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	m.turn <- struct{}{} // somebody else's pass
	ctx, cancel = context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := m.Embed(ctx, []string{"text"}); done <- err }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended while waiting: %v", err)
	}
	<-m.turn
	if _, err := m.Embed(t.Context(), []string{"text"}); err != nil {
		t.Errorf("after a cancelled call: %v", err)
	}
}

func TestName(t *testing.T) {
	if got, want := openModel(t).Name(), "all-MiniLM-L6-v2@53aa51172d14"; got != want {
		t.Errorf("name %q, want %q", got, want)
	}
}

// TestOpenRefuses breaks one file of a model folder at a time.
func TestOpenRefuses(t *testing.T) {
	pool := cpu.NewPool(1)
	defer pool.Close()
	source := embedderDir(t)
	for _, c := range []struct{ name, file, old, new, want string }{
		{"missing weights", "model.safetensors", "", "", "no such file"},
		{"missing configuration", "config.json", "", "", "no such file"},
		{"another architecture", "config.json", `"bert"`, `"roberta"`, "model_type"},
		{"another activation", "config.json", `"gelu"`, `"relu"`, "hidden_act"},
		{"relative positions", "config.json", `"absolute"`, `"relative_key"`, "position_embedding_type"},
		{"zero heads", "config.json", `"num_attention_heads": 12`, `"num_attention_heads": 0`, "num_attention_heads"},
		{"uneven heads", "config.json", `"num_attention_heads": 12`, `"num_attention_heads": 7`, "multiple"},
		{"no epsilon", "config.json", `"layer_norm_eps": 1e-12`, `"layer_norm_eps": 0`, "layer_norm_eps"},
		{"more layers than weights", "config.json", `"num_hidden_layers": 6`, `"num_hidden_layers": 7`, "encoder.layer.6"},
		{"another width", "config.json", `"hidden_size": 384`, `"hidden_size": 768`, "shape"},
		{"longer than its positions", "sentence_bert_config.json", "256", "513", "max_seq_length"},
		{"another pooling", "1_Pooling/config.json", `"pooling_mode_max_tokens": false`, `"pooling_mode_max_tokens": true`, "pooling_mode_max_tokens"},
		{"two poolings", "1_Pooling/config.json", `"pooling_mode_cls_token": false`, `"pooling_mode_cls_token": true`, "pooling_mode_cls_token"},
		{"no pooling", "1_Pooling/config.json", `"pooling_mode_mean_tokens": true`, `"pooling_mode_mean_tokens": false`, "pooling_mode_mean_tokens"},
		{"a tokenizer of another size", "config.json", `"vocab_size": 30522`, `"vocab_size": 30000`, "30000 embeddings"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := brokenCopy(t, source, c.file, c.old, c.new)
			if _, err := Open(dir, pool); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got error %v, want one about %q that names the folder", err, c.want)
			}
		})
	}
}

// brokenCopy links dir's files into a new folder, with old replaced by new in
// one of them, or without that file if old is empty.
func brokenCopy(t *testing.T, dir, file, old, new string) string {
	t.Helper()
	copied := t.TempDir()
	if err := os.Mkdir(filepath.Join(copied, "1_Pooling"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.json", "sentence_bert_config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"} {
		path, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if name != file {
			if err := os.Symlink(path, filepath.Join(copied, name)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if old == "" {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		broken := strings.Replace(string(data), old, new, 1)
		if broken == string(data) {
			t.Fatalf("%s does not hold %q", name, old)
		}
		if err := os.WriteFile(filepath.Join(copied, name), []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return copied
}

// BenchmarkEmbed reports the tokens read in a second.
func BenchmarkEmbed(b *testing.B) {
	m := openModel(b)
	for _, c := range []struct {
		name  string
		texts []string
	}{
		{"question", []string{"How does the cache keep the tokens that were evicted?"}},
		{"passages", []string{strings.Repeat("one two three four ", 64), strings.Repeat("five six seven ", 40), strings.Repeat("eight nine ", 90)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			tokens := 0
			for _, text := range c.texts {
				tokens += len(m.tokenizer.Encode(text, m.MaxTokens()))
			}
			for b.Loop() {
				if _, err := m.Embed(b.Context(), c.texts); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(tokens*b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
