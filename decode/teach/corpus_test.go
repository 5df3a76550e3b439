package teach

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// numbered documents: token 1000·i+j is the jth of document i.
func numbered(n, length int) []Document {
	var d []Document
	for i := range n {
		var tokens []int32
		for j := range length {
			tokens = append(tokens, int32(10_000*(i+1)+j))
		}
		d = append(d, Document{Name: fmt.Sprintf("page-%d", i), Tokens: tokens})
	}
	return d
}

func TestCut(t *testing.T) {
	const length = 1000
	documents := numbered(60, 1500)
	c, err := Cut(documents, []int32{1}, length, 8, 3)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Train) != 8 || len(c.HeldOut) != 3 {
		t.Fatalf("%d windows and %d held out", len(c.Train), len(c.HeldOut))
	}
	of := func(windows [][]int32) []string {
		var names []string
		for i, w := range windows {
			if len(w) != length {
				t.Fatalf("window %d has %d tokens", i, len(w))
			}
			in := map[int32]bool{}
			for _, token := range w {
				if token > 1 {
					in[token/10_000] = true
					names = append(names, fmt.Sprintf("page-%d", token/10_000-1))
				}
			}
			if one := i%2 == 0; one != (len(in) == 1) {
				t.Errorf("window %d is of %d documents", i, len(in))
			}
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	trained, held := of(c.Train), of(c.HeldOut)
	for _, name := range held {
		if slices.Contains(trained, name) || slices.Contains(c.Names, name) {
			t.Errorf("%s is trained on and held out", name)
		}
	}
	for _, name := range trained {
		if !slices.Contains(c.Names, name) {
			t.Errorf("%s is not among the names", name)
		}
	}
	// Another length holds out the same documents.
	long, err := Cut(documents, []int32{1}, 1400, 2, 1)
	if err != nil || !slices.Equal(long.Names, c.Names) {
		t.Errorf("another length trains on other documents (%v)", err)
	}
	slices.Reverse(documents)
	if again, err := Cut(documents, []int32{1}, length, 8, 3); err != nil || !reflect.DeepEqual(again, c) {
		t.Errorf("another order gives other windows (%v)", err)
	}
}

func TestCutRefuses(t *testing.T) {
	for name, documents := range map[string][]Document{"none": nil, "empty": numbered(50, 0), "short": numbered(20, 10)} {
		if _, err := Cut(documents, nil, 500, 2, 1); err == nil || !strings.Contains(err.Error(), "too few") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

func TestNeedleProbes(t *testing.T) {
	encode := func(text string) []int32 {
		var tokens []int32
		for _, r := range text {
			tokens = append(tokens, -int32(r))
		}
		return tokens
	}
	windows := [][]int32{numbered(1, 2000)[0].Tokens, numbered(2, 3000)[1].Tokens}
	for i, p := range NeedleProbes(windows, encode) {
		var kept strings.Builder
		n := 0
		for j, keep := range p.Keep {
			if !keep {
				continue
			}
			n++
			if p.Tokens[j] < 0 {
				kept.WriteRune(rune(-p.Tokens[j]))
			}
		}
		var answer strings.Builder
		for _, token := range p.Tokens[len(p.Keep):] {
			answer.WriteRune(rune(-token))
		}
		code := answer.String()[strings.LastIndexByte(answer.String(), ' '):]
		if !strings.Contains(kept.String(), code+".") || !strings.HasSuffix(kept.String(), "Answer:") {
			t.Errorf("needle %d: kept %q, and the answer is %q", i, kept.String(), answer.String())
		}
		if share := float64(n) / float64(len(p.Keep)); !(share <= 0.13) {
			t.Errorf("needle %d: %.2f of the prompt is kept", i, share)
		}
		if got := len(p.Tokens) - 1 - p.From; got != len(code) {
			t.Errorf("needle %d: %d predictions count, the code %q has %d tokens", i, got, code, len(code))
		}
	}
}
