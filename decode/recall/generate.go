package recall

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"lessrag/decode/tokenizer"
)

// Options of a set of prompts.
type Options struct {
	Lengths     []int  // tokens of the prompts, documents and question
	Depths      int    // parts of the documents that facts are put into, each in turn
	Each        int    // prompts of each kind, length and depth
	Seed        uint64 //
	Calibration bool   // pages, settings and words that no evaluation uses
}

// words name the teams whose access codes synthetic prompts ask for.
var (
	evaluationWords  = strings.Fields("zephyr quokka marlin obsidian juniper falcon saffron tundra lantern cobalt walnut harbor meteor pelican granite orchid badger comet thistle walrus")
	calibrationWords = strings.Fields("anchor willow copper raven summit cedar velvet comrade prairie glacier ember violet")
)

const (
	passageTokens  = 230
	needles        = 4    // codes in a synthetic prompt, one of which is asked for
	overheadTokens = 70   // of a prompt beside its documents
	headingTokens  = 12   // of a document beside its passage
	excerptBytes   = 1800 // of a page, that a passage is cut from
)

// generator draws from the pages of one purpose.
type generator struct {
	Options
	random   *rand.Rand
	tok      *tokenizer.Tokenizer
	pages    []Page
	words    []string
	settings []setting
	next     int // setting
}

// Generate makes the prompts: kind by kind, then by length and depth. The same
// pages and options give the same prompts. Pages of the other purpose are left out:
// see ForEvaluation.
func Generate(pages []Page, tok *tokenizer.Tokenizer, o Options) ([]Prompt, error) {
	g := &generator{Options: o, random: rand.New(rand.NewPCG(o.Seed, 0)), tok: tok, words: evaluationWords}
	if o.Calibration {
		g.words = calibrationWords
	}
	for _, p := range pages {
		if ForEvaluation(p.Name) == !o.Calibration && len(p.Text) >= excerptBytes {
			g.pages = append(g.pages, p)
			g.settings = append(g.settings, settings(p)...)
		}
	}
	slices.SortStableFunc(g.pages, func(a, b Page) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(g.settings, func(a, b setting) int { return strings.Compare(a.page+a.name, b.page+b.name) })
	if len(g.pages) == 0 || len(g.settings) == 0 {
		return nil, fmt.Errorf("recall: of %d pages, %d can be quoted and explain %d settings", len(pages), len(g.pages), len(g.settings))
	}
	g.random.Shuffle(len(g.settings), func(i, j int) { g.settings[i], g.settings[j] = g.settings[j], g.settings[i] })

	var prompts []Prompt
	for _, kind := range []Kind{Synthetic, Natural} {
		for _, length := range o.Lengths {
			for depth := range o.Depths {
				for i := range o.Each {
					p := Prompt{ID: fmt.Sprintf("%s-%d-%d-%d", kind, length, depth, i), Kind: kind, Length: length, Depth: depth}
					if err := g.fill(&p); err != nil {
						return nil, err
					}
					prompts = append(prompts, p)
				}
			}
		}
	}
	return prompts, nil
}

func (g *generator) fill(p *Prompt) error {
	const document = passageTokens + headingTokens
	n := max(needles, (p.Length-overheadTokens+document/2)/document)
	from, to := p.Depth*n/g.Depths, (p.Depth+1)*n/g.Depths
	at := from + g.random.IntN(max(1, to-from)) // the document that holds the fact
	if p.Kind == Synthetic {
		return g.synthetic(p, n, at)
	}
	return g.natural(p, n, at)
}

// synthetic puts four access codes into as many documents and asks for one.
func (g *generator) synthetic(p *Prompt, n, at int) error {
	passages, err := g.passages(n, "")
	if err != nil {
		return err
	}
	words := slices.Clone(g.words)
	g.random.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	places := g.random.Perm(n)
	places = append([]int{at}, slices.DeleteFunc(places, func(i int) bool { return i == at })...)
	code := ""
	for i := range needles {
		number := fmt.Sprint(10000 + g.random.IntN(90000))
		if i == 0 {
			code = number
		}
		passages[places[i]].insert(g.random, fmt.Sprintf("The access code of the %s team is %s.", words[i], number))
	}
	p.Question = fmt.Sprintf("What is the access code of the %s team?", words[0])
	p.Prefix = fmt.Sprintf("The access code of the %s team is", words[0])
	p.Gold = " " + code
	from := p.join(passages, at)
	return p.mark(from, p.Prefix+p.Gold, code)
}

// natural quotes what explains a setting among other documents, and asks for its default.
func (g *generator) natural(p *Prompt, n, at int) error {
	s := g.settings[g.next%len(g.settings)]
	g.next++
	passages, err := g.passages(n, s.name)
	if err != nil {
		return err
	}
	passages[at] = passage{s.page, s.passage}
	p.Question = fmt.Sprintf("What is the default value of %s?", s.name)
	p.Prefix = fmt.Sprintf("The default value of %s is", s.name)
	p.Gold = " " + s.value
	from := p.join(passages, at)
	return p.mark(from, s.sentence, s.value)
}

// passage is what a document of a prompt says.
type passage struct{ page, text string }

// passages cuts n passages from random pages, none with the forbidden text.
func (g *generator) passages(n int, forbidden string) ([]passage, error) {
	var found []passage
	for range 200 * n {
		page := g.pages[g.random.IntN(len(g.pages))]
		start := g.random.IntN(len(page.Text) - excerptBytes + 1)
		text := page.Text[start : start+excerptBytes]
		text = strings.ToValidUTF8(text[strings.IndexByte(text, '\n')+1:], "")
		tokens := g.tok.Encode(text)
		if len(tokens) < passageTokens || forbidden != "" && strings.Contains(text, forbidden) {
			continue
		}
		text = strings.ToValidUTF8(g.tok.Decode(tokens[:passageTokens]), "")
		if found = append(found, passage{page.Name, text}); len(found) == n {
			return found, nil
		}
	}
	return nil, fmt.Errorf("recall: the pages give no %d passages of %d tokens", n, passageTokens)
}

// insert puts a sentence on a line of its own, at a random place.
func (p *passage) insert(random *rand.Rand, sentence string) {
	lines := strings.Split(p.text, "\n")
	lines = slices.Insert(lines, random.IntN(len(lines)), sentence)
	p.text = strings.Join(lines, "\n")
}

// join writes the documents of the prompt and returns where passage at begins.
func (p *Prompt) join(passages []passage, at int) int {
	var b strings.Builder
	from := 0
	for i, one := range passages {
		fmt.Fprintf(&b, "Document %d (%s):\n", i+1, one.page)
		if i == at {
			from = b.Len()
		}
		fmt.Fprintf(&b, "%s\n\n", one.text)
	}
	p.Documents = b.String()
	return from
}
