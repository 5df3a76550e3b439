package ptx

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// kernel is one decoded entry of a module.
type kernel struct {
	name    string
	params  map[string]param
	order   []param // as declared
	size    int     // bytes of all params
	threads int     // of a block, from .reqntid

	code     []instruction
	initial  []uint64       // [registers, 32] at the start of a warp: constants and poison
	specials map[string]int // registers that tell a thread where it is
}

type param struct{ offset, size int }

// instruction is a decoded line.
type instruction struct {
	text   string
	line   int // of the module's text
	guard  int // register of the predicate, -1: none
	negate bool
	kind   kind
	do     step
	target int // of a branch
	join   int // where the ways of a branch meet again: its immediate post-dominator
}

type kind byte

const (
	plain kind = iota
	branch
	leave
	barrier
)

// step runs an instruction for the lanes of a mask.
type step func(w *warp, mask uint32)

// A malformed or unknown text stops the parser by a panic of this type.
type syntaxError struct{ text string }

func (e syntaxError) Error() string { return e.text }

func refuse(format string, args ...any) { panic(syntaxError{fmt.Sprintf(format, args...)}) }

var (
	entryLine    = regexp.MustCompile(`^\.visible \.entry (\w+)\($`)
	paramLine    = regexp.MustCompile(`^\.param \.(u64|u32|f32)( \.ptr \.global \.align \d+)? (\w+),?$`)
	registerLine = regexp.MustCompile(`^\.reg \.(pred|s8|b16|b32|f32|b64|f64)\s+(%?\w+)(<(\d+)>)?;$`)
	threadsLine  = regexp.MustCompile(`^\.reqntid (\d+)$`)
	sharedLine   = regexp.MustCompile(`^\.extern \.shared \.align (\d+) \.b8 (\w+)\[\];$`)
	textLine     = regexp.MustCompile(`^\.global \.align 1 \.b8 [\w$]+\[\d+\] = \{[\d, ]+\};$`) // of LLVM's, never read
	labelLine    = regexp.MustCompile(`^(\$\w+):$`)
)

// headers are the lines outside kernels that change nothing here. The version and the
// target are checked: what they add must be known to the interpreter.
var headers = []string{".version 7.0", ".target sm_80", ".address_size 64"}

type parser struct {
	*kernel   // that is being decoded
	kernels   map[string]*kernel
	inside    place
	shared    string         // name of shared memory
	registers map[string]int // by name, and constants by their text
	outer     map[string]int // registers outside of braces
	widths    map[string]int // bits of declared registers
	labels    map[string]int
	branches  map[int]string
	line      int
}

// parse decodes the kernels of a module.
func parse(text string) (kernels map[string]*kernel, err error) {
	p := &parser{kernels: map[string]*kernel{}}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case syntaxError:
			kernels, err = nil, fmt.Errorf("ptx: line %d: %s", p.line, r.text)
		default:
			panic(r)
		}
	}()
	for i, line := range strings.Split(text, "\n") {
		p.line = i + 1
		line, _, _ = strings.Cut(line, "//")
		for _, part := range scopes(strings.TrimSpace(strings.ReplaceAll(line, "\t", " "))) {
			p.part(part)
		}
	}
	if p.inside != outside {
		refuse("the text ends inside a kernel")
	}
	return p.kernels, nil
}

// scopes are the lines that a line in braces stands for.
func scopes(line string) []string {
	inner, ok := strings.CutPrefix(line, "{ ")
	if !ok || !strings.HasSuffix(inner, "; }") {
		return []string{line}
	}
	parts := []string{"{"}
	for _, statement := range strings.Split(strings.TrimSuffix(inner, "; }"), ";") {
		parts = append(parts, strings.TrimSpace(statement)+";")
	}
	return append(parts, "}")
}

// place is the part of a text that the parser is in.
type place byte

const (
	outside place = iota
	params
	head
	body
	scope
)

func (p *parser) part(line string) {
	switch {
	case line == "":
	case p.inside == outside:
		p.declaration(line)
	case p.inside == params:
		p.parameter(line)
	case p.inside == head:
		if m := threadsLine.FindStringSubmatch(line); m != nil {
			p.threads, _ = strconv.Atoi(m[1])
		} else if line == "{" {
			p.inside = body
		} else {
			refuse("unknown directive %q", line)
		}
	case line == "{" && p.inside == body:
		p.outer = maps.Clone(p.registers) // inline assembly has registers of its own
		p.inside = scope
	case line == "}" && p.inside == scope:
		p.registers, p.inside = p.outer, body
	case line == "}":
		p.end()
		p.kernels[p.name], p.inside = p.kernel, outside
	default:
		p.statement(line)
	}
}

func (p *parser) declaration(line string) {
	if m := entryLine.FindStringSubmatch(line); m != nil {
		p.begin(m[1])
		p.inside = params
	} else if m := sharedLine.FindStringSubmatch(line); m != nil {
		p.shared = m[2]
	} else if !slices.Contains(headers, line) && !textLine.MatchString(line) {
		refuse("unknown directive %q", line)
	}
}

func (p *parser) begin(name string) {
	p.kernel = &kernel{name: name, params: map[string]param{}, specials: map[string]int{}}
	p.registers, p.widths, p.labels, p.branches = map[string]int{}, map[string]int{}, map[string]int{}, map[int]string{}
	if p.shared != "" {
		p.registers[p.shared] = p.constant(0) // shared memory begins at 0
	}
}

func (p *parser) parameter(line string) {
	if line == ")" {
		p.inside = head
		return
	}
	m := paramLine.FindStringSubmatch(line)
	if m == nil {
		refuse("unknown parameter %q", line)
	}
	size := 4
	if m[1] == "u64" {
		size = 8
	}
	p.size = (p.size + size - 1) &^ (size - 1)
	p.params[m[3]] = param{p.size, size}
	p.order = append(p.order, param{p.size, size})
	p.size += size
}

// statement decodes a line of a kernel's body.
func (p *parser) statement(line string) {
	if m := registerLine.FindStringSubmatch(line); m != nil {
		names := []string{m[2]}
		if m[3] != "" {
			names = nil
			n, _ := strconv.Atoi(m[4])
			for i := range n {
				names = append(names, m[2]+strconv.Itoa(i))
			}
		}
		for _, name := range names {
			p.registers[name], p.widths[name] = p.register(), bitsIn(m[1])
		}
		return
	}
	if m := labelLine.FindStringSubmatch(line); m != nil {
		p.labels[m[1]] = len(p.code)
		return
	}
	body, ok := strings.CutSuffix(line, ";")
	if !ok || strings.Contains(body, ";") {
		refuse("not one statement: %q", line)
	}
	in := instruction{text: line, line: p.line, guard: -1}
	if body[0] == '@' {
		name, rest, _ := strings.Cut(body[1:], " ")
		name, in.negate = strings.CutPrefix(name, "!")
		if p.widths[name] != 1 {
			refuse("%q is no predicate", name)
		}
		in.guard, body = p.registers[name], strings.TrimSpace(rest)
	}
	opcode, rest, _ := strings.Cut(body, " ")
	operands := divide(strings.TrimSpace(rest))
	switch opcode {
	case "bra", "bra.uni":
		in.kind = branch
		p.branches[len(p.code)] = operands[0]
	case "ret":
		in.kind = leave
	case "bar.sync":
		if in.guard >= 0 || len(operands) != 1 || operands[0] != "0" {
			refuse("unknown barrier %q", line)
		}
		in.kind = barrier
	default:
		decode, ok := opcodes[opcode]
		if !ok {
			refuse("unknown instruction %q", line)
		}
		in.do = decode(p, operands)
	}
	p.code = append(p.code, in)
}

func (p *parser) end() {
	for _, at := range slices.Sorted(maps.Keys(p.branches)) {
		target, ok := p.labels[p.branches[at]]
		if !ok {
			p.line = p.code[at].line
			refuse("no label %q", p.branches[at])
		}
		p.code[at].target = target
	}
	if n := len(p.code); n == 0 || p.code[n-1].kind != leave || p.code[n-1].guard >= 0 {
		refuse("kernel %s does not end in ret", p.name)
	}
	joins(p.code)
}

// divide separates operands by commas outside of braces and brackets.
func divide(s string) []string {
	var out []string
	depth, from := 0, 0
	for i, c := range s {
		switch c {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ',':
			if depth == 0 {
				out, from = append(out, strings.TrimSpace(s[from:i])), i+1
			}
		}
	}
	return append(out, strings.TrimSpace(s[from:]))
}
