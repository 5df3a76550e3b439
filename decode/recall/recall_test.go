package recall

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lessrag/decode"
	"lessrag/decode/gguf"
	"lessrag/decode/tokenizer"
)

// reader is the default model's tokenizer and template.
func reader(t *testing.T) (*tokenizer.Tokenizer, *decode.Template) {
	t.Helper()
	assets := os.Getenv("LESSRAG_ASSETS")
	if assets == "" {
		assets = filepath.Join("..", "..", "assets")
	}
	f, err := gguf.Open(filepath.Join(assets, "models", "SmolLM2-135M-Instruct.Q4_1.gguf"))
	if err != nil {
		t.Fatalf("%v; run make fetch", err)
	}
	t.Cleanup(func() { f.Close() })
	tok, err := tokenizer.FromGGUF(f)
	if err != nil {
		t.Fatal(err)
	}
	template, err := decode.NewTemplate(f)
	if err != nil {
		t.Fatal(err)
	}
	return tok, template
}

// pages are invented documents: prose, and some pages of settings.
func pages() []Page {
	random := rand.New(rand.NewPCG(1, 1))
	words := strings.Fields("the server keeps a log of every write and reads it back when it starts again after a crash or a planned stop")
	var made []Page
	prose := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(words[random.IntN(len(words))])
			b.WriteString([]string{" ", " ", " ", ". ", ".\n"}[i%5])
		}
		return b.String()
	}
	for i := range 60 {
		made = append(made, Page{Name: fmt.Sprintf("prose-%d.html", i), Text: prose(900)})
	}
	for _, name := range []string{"runtime-config-wal.html", "runtime-config-resource.html"} {
		text := prose(300) + "\n"
		for i := range 8 {
			text += fmt.Sprintf("\n%s_limit_%s (integer)\n\nBounds what is kept. The default value is %d.\n\n%s\n", name[15:18], string(rune('a'+i)), 100+i, prose(60))
		}
		made = append(made, Page{Name: name, Text: text})
	}
	return made
}

func TestForEvaluation(t *testing.T) {
	for name, want := range map[string]bool{
		"runtime-config-wal.html":           true,
		"html/runtime-config-resource.html": false,
		"git-branch.html":                   true, // of the reference perplexities
		"library/modulefinder.html":         true,
	} {
		if ForEvaluation(name) != want {
			t.Errorf("%s: for evaluation %v, want %v", name, !want, want)
		}
	}
	held := 0
	for i := range 3000 {
		if ForEvaluation(fmt.Sprintf("page-%d.html", i)) {
			held++
		}
	}
	if held < 900 || held > 1100 {
		t.Errorf("of 3000 pages %d are for evaluation, want a third", held)
	}
}

func TestSettings(t *testing.T) {
	text := `Settings

work_mem (integer)

Sets memory. The default value is four megabytes. See the rest.

log_timezone (string)

The default is to follow the system.

fsync (boolean)

The default is on.

seq_page_cost (floating point)

Sets the cost. (The default is 1.0.) Then more.

max_name (string)

Nothing of a default.

geqo_seed (floating point)

The default is 0, which is far below.
`
	var got []string
	for _, s := range settings(Page{Name: "x.html", Text: text}) {
		if !strings.HasPrefix(s.passage, s.name+" (") || !strings.Contains(s.passage, s.sentence) || !strings.HasSuffix(s.sentence, s.value) {
			t.Errorf("%s: sentence %q is not in passage %q", s.name, s.sentence, s.passage)
		}
		got = append(got, s.name+"="+s.value)
	}
	if want := "work_mem=four seq_page_cost=1.0 geqo_seed=0"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// Prompts have the length asked for, hold their fact once, in the third asked for,
// and say where; the same seed makes the same ones, and calibration shares neither
// pages nor words with evaluation.
func TestGenerate(t *testing.T) {
	tok, template := reader(t)
	o := Options{Lengths: []int{1100, 2000}, Depths: 3, Each: 2, Seed: 5}
	prompts, err := Generate(pages(), tok, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(prompts) != 2*2*3*2 {
		t.Fatalf("%d prompts", len(prompts))
	}
	again, err := Generate(pages(), tok, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Calibration = true
	apart, err := Generate(pages(), tok, o)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range prompts {
		if p != again[i] {
			t.Fatalf("prompt %s is another one the second time", p.ID)
		}
		e, err := p.Encode(tok, template)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(e.Tokens); n < p.Length-300 || n > p.Length+200 {
			t.Errorf("%s has %d tokens", p.ID, n)
		}
		text := func(span [2]int) string { return tok.Decode(e.Tokens[span[0]:span[1]]) }
		gold := strings.TrimSpace(p.Gold)
		if !strings.Contains(text(e.SentenceRange), gold) || strings.TrimSpace(text(e.AnswerRange)) != gold {
			t.Errorf("%s: sentence %q, answer %q, want %q", p.ID, text(e.SentenceRange), text(e.AnswerRange), gold)
		}
		question := text([2]int{len(e.Tokens) - e.QuestionRows, len(e.Tokens)})
		if !strings.HasPrefix(question, "Question: "+p.Question) || e.QuestionRows > 60 {
			t.Errorf("%s: the question's rows read %q", p.ID, question)
		}
		if third := 3 * p.Answer[0] / len(p.Documents); third != p.Depth && third != p.Depth+1 && third != p.Depth-1 {
			t.Errorf("%s: the answer is in third %d", p.ID, third)
		}
		if strings.Count(p.Documents, p.Documents[p.Sentence[0]:p.Sentence[1]]) != 1 && p.Kind == Synthetic {
			t.Errorf("%s: the sentence is there more than once", p.ID)
		}
		if strings.Contains(apart[i].Documents, "runtime-config-wal") || strings.Contains(p.Documents, "runtime-config-resource") {
			t.Errorf("%s: a page of the other purpose", p.ID)
		}
		if p.Question == apart[i].Question {
			t.Errorf("%s: the question of a calibration prompt", p.ID)
		}
	}
	if _, err := Generate(nil, tok, o); err == nil {
		t.Error("prompts were made from no pages")
	}
}
