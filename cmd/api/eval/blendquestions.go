package eval

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"

	"lessrag/decode"
	"lessrag/retrieve"
)

// BlendQuestion is a question with the passages to read.
type BlendQuestion struct {
	question, section string
	found             []retrieve.Passage // the best first
}

// otherPassages is how many passages that do not answer there are, for each that a
// prompt has: they come again, as the frequent passages of a collection do.
const otherPassages = 4

// questions are chosen and their passages cut: the one that answers among the first
// three, the others from places of the same pages taken by chance.
func (o BlendOptions) questions(ctx context.Context, engine *decode.Engine, dir string) ([]BlendQuestion, error) {
	all, err := ReadQuestions(filepath.Join(dir, "questions.jsonl"), true)
	if err != nil {
		return nil, fmt.Errorf("%w: run `make fetch-eval`", err)
	}
	random := rand.New(rand.NewPCG(o.Seed, 3))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	p := pageTokens{engine: engine, length: o.Tokens, of: map[string][]int32{}}
	if err := p.read(ctx, filepath.Join(dir, "pages"), all); err != nil {
		return nil, err
	}
	var others []retrieve.Passage
	for range otherPassages * o.Passages {
		if len(p.long) > 0 {
			name := p.long[random.IntN(len(p.long))]
			others = append(others, p.cut(p.of[name], random.IntN(len(p.of[name])), name))
		}
	}
	var questions []BlendQuestion
	for _, q := range all {
		answers, ok := p.answering(q)
		if !ok {
			continue
		}
		b := BlendQuestion{question: q.Question, section: q.Section}
		for _, i := range random.Perm(len(others)) {
			if others[i].Document.Name != q.Source && len(b.found) < o.Passages-1 {
				b.found = append(b.found, others[i])
			}
		}
		if len(b.found) < o.Passages-1 {
			return nil, fmt.Errorf("too few pages of %d tokens beside %s", o.Tokens, q.Source)
		}
		b.found = slices.Insert(b.found, min(len(questions)%3, len(b.found)), answers)
		if questions = append(questions, b); len(questions) == o.Questions {
			break
		}
	}
	return questions, nil
}

// pageTokens are the pages that passages are cut from.
type pageTokens struct {
	engine *decode.Engine
	length int // tokens of a passage
	of     map[string][]int32
	long   []string // names of those that hold a passage, as the questions name them first
}

// read reads the page of every question.
func (p *pageTokens) read(ctx context.Context, dir string, questions []retrieve.Expected) error {
	for _, q := range questions {
		if p.of[q.Source] != nil {
			continue
		}
		page, err := ReadPage(ctx, filepath.Join(dir, q.Source))
		if err != nil {
			return err
		}
		p.of[q.Source] = p.engine.Tokenizer().Encode(page.Text)
		if len(p.of[q.Source]) >= p.length {
			p.long = append(p.long, q.Source)
		}
	}
	return nil
}

// answering is the passage that holds the beginning of a question's section, an eighth
// of its tokens before it; the section is found by its first four words.
func (p *pageTokens) answering(q retrieve.Expected) (retrieve.Passage, bool) {
	begin := strings.Fields(q.Section)
	begin = begin[:min(4, len(begin))]
	text := strings.Join(strings.Fields(p.engine.Tokenizer().Decode(p.of[q.Source])), " ")
	at := strings.Index(text, strings.Join(begin, " "))
	page := p.engine.Tokenizer().Encode(text)
	if len(begin) == 0 || at < 0 || len(page) < p.length {
		return retrieve.Passage{}, false
	}
	return p.cut(page, len(p.engine.Tokenizer().Encode(text[:at]))-p.length/8, q.Source), true
}

// cut is the passage at a token of a page, or the last that begins before it.
func (p *pageTokens) cut(page []int32, at int, name string) retrieve.Passage {
	at = max(0, min(at, len(page)-p.length))
	return retrieve.Passage{Document: retrieve.Document{Name: name}, Text: strings.ToValidUTF8(p.engine.Tokenizer().Decode(page[at:at+p.length]), "")}
}
