package decode

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ardanlabs/jinja"
)

// The jinja library has no limits of its own, so a template is rewritten to
// call a meter (chat_meter.go) wherever it writes, assigns or repeats, and what
// the meter could not see in time is refused beforehand: operators and filters
// that multiply what they are given, and methods that could tie a value to
// itself.
const (
	maxTemplate = 64 << 10 // bytes of source; the largest in use have 20 KB
	maxTag      = 8 << 10  // bytes of one tag
	maxOperands = 128      // names and strings of one tag: to join n copies the first n times
	maxGrowth   = 2048     // how much larger than its largest operand one expression may be
)

// reserved begins the names of the meter's functions; no template may use it.
const reserved = "__"

// limitTemplate checks a template and returns it with calls of the meter. All
// its text becomes quoted, which also settles white space here.
func limitTemplate(source string) (string, error) {
	if len(source) > maxTemplate {
		return "", fmt.Errorf("%d bytes; at most %d are allowed", len(source), maxTemplate)
	}
	segments, err := scanTemplate(source)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, s := range segments {
		limited, err := limitSegment(s)
		if err != nil {
			return "", fmt.Errorf("line %d: %w", s.line, err)
		}
		b.WriteString(limited)
	}
	for _, r := range b.String() {
		if r >= veilFirst {
			return "", fmt.Errorf("uses the private character %U, which stands for message text here", r)
		}
	}
	return b.String(), nil
}

// limitSegment checks and rewrites text or one tag.
func limitSegment(s segment) (string, error) {
	switch s.kind {
	case 't':
		return fmt.Sprintf("{{ __out(%s) }}", quote(s.text)), nil
	case '#':
		return "", nil
	}
	text, err := requote(s.text)
	if err != nil {
		return "", err
	}
	list, err := checkTag(text)
	if err != nil {
		return "", err
	}
	if s.kind == '{' {
		if err := checkExpression(text); err != nil {
			return "", err
		}
		return fmt.Sprintf("{{ __out(%s) }}", text), nil
	}
	return limitStatement(text, list)
}

// limitStatement rewrites a statement, list being its tokens.
func limitStatement(text string, list []word) (string, error) {
	tag := "{% " + text + " %}"
	rest := strings.TrimSpace(strings.TrimPrefix(text, list[0].text))
	switch list[0].text {
	case "if", "elif":
		if err := checkExpression(rest); err != nil {
			return "", err
		}
		return fmt.Sprintf("{%% %s __keep(%s) %%}", list[0].text, rest), nil
	case "else", "endif", "endfor", "endset", "generation", "endgeneration", "break", "continue":
		return tag, nil
	case "for":
		return limitFor(rest)
	case "set":
		return limitSet(rest)
	case "macro":
		_, params, ok := strings.Cut(rest, "(")
		if !ok || strings.Contains(params, "(") {
			return "", errors.New("a macro needs a list of parameters, without calls in it")
		}
		tag += "{% set __depth = __enter() %}"
		for param := range strings.SplitSeq(strings.TrimSuffix(params, ")"), ",") {
			name, _, _ := strings.Cut(param, "=")
			tag += keep(name)
		}
		return tag, nil
	case "endmacro":
		return "{% set __depth = __leave() %}" + tag, nil
	}
	return "", fmt.Errorf("statement %q is not supported", list[0].text)
}

// limitFor counts every item of a loop, in its filter so that items which are
// passed over count too.
func limitFor(rest string) (string, error) {
	list, err := words(rest)
	if err != nil {
		return "", err
	}
	names, iterable, at, depth := "", "", 0, 0
	filter := "true"
	for _, w := range list {
		at += strings.Index(rest[at:], w.text)
		switch {
		case strings.Contains("([{", w.text):
			depth++
		case strings.Contains(")]}", w.text):
			depth--
		case w.kind != 'n' || depth != 0:
		case w.text == "recursive":
			return "", errors.New("recursive loops are not supported")
		case w.text == "in" && names == "":
			names, iterable = rest[:at], rest[at+2:]
		case w.text == "if" && names != "" && filter == "true":
			iterable, filter = rest[len(names)+2:at], rest[at+2:]
			if err := checkExpression(filter); err != nil {
				return "", err
			}
		}
		at += len(w.text)
	}
	if names == "" {
		return "", errors.New("for has no \"in\"")
	}
	if err := checkExpression(iterable); err != nil {
		return "", err
	}
	tag := fmt.Sprintf("{%% for %s in %s if __step() and (%s) %%}", names, iterable, filter)
	for name := range strings.SplitSeq(names, ",") {
		tag += keep(name)
	}
	return tag, nil
}

// limitSet measures what is assigned. A namespace gets a copy, so that it can
// never hold itself.
func limitSet(rest string) (string, error) {
	target, value, ok := strings.Cut(rest, "=")
	if !ok {
		return "{% set " + rest + " %}", nil // a block: what it writes is measured
	}
	if err := checkExpression(value); err != nil {
		return "", err
	}
	measure := "__keep"
	if strings.Contains(target, ".") {
		measure = "__copy"
	}
	return fmt.Sprintf("{%% set %s = %s(%s) %%}", target, measure, value), nil
}

// keep measures a variable that a loop or a macro has set.
func keep(name string) string {
	name = strings.TrimSpace(name)
	if list, err := words(name); err != nil || len(list) != 1 || list[0].kind != 'n' {
		return ""
	}
	return fmt.Sprintf("{%% set %s = __keep(%s) %%}", name, name)
}

// compile is jinja.Compile; a panic there is an error.
func compile(source string) (t *jinja.Template, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not understood: %v", r)
		}
	}()
	return jinja.Compile(source)
}
