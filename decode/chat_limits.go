package decode

import (
	"errors"
	"fmt"
	"strconv"
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
	maxGrowth   = 2048     // how much larger than its largest operand one expression may be
)

// reserved begins the names of the meter's functions; no template may use it.
const reserved = "__"

// growth is how many times larger a filter or method can make what it is given,
// when its arguments are literals of at most maxLiteral. Filters that are not
// here are refused; so are methods whose growth is 0.
var (
	filterGrowth = map[string]int{
		"trim": 1, "lower": 1, "upper": 3, "title": 3, "capitalize": 3, "first": 1, "last": 1,
		"length": 1, "count": 1, "default": 1, "d": 1, "string": 1, "int": 1, "float": 1, "abs": 1,
		"items": 2, "dictsort": 2, "list": 9, "reverse": 1, "safe": 1, "replace": 2,
		"map": 1, "select": 1, "reject": 1, "selectattr": 1, "rejectattr": 1,
		"escape": 6, "e": 6, "tojson": 70, "join": 17, "indent": 17,
	}
	methodGrowth = map[string]int{
		"split": 9, "replace": 2, "upper": 3, "title": 3, "capitalize": 3, "items": 2, "keys": 2, "values": 2,
		"append": 0, "insert": 0, "update": 0, "format": 0,
	}
	functionGrowth = map[string]int{"strftime_now": 8}
)

// literalOnly are the filters and methods whose arguments must be literals.
var literalOnly = map[string]bool{
	"replace": true, "map": true, "select": true, "reject": true, "selectattr": true, "rejectattr": true,
	"tojson": true, "join": true, "indent": true,
}

// widens are those of literalOnly that repeat their arguments.
var widens = map[string]bool{"tojson": true, "join": true, "indent": true}

const maxLiteral = 16 // the largest number, and bytes of a string that widens

// limitTemplate checks a template and returns it with calls of the meter. All
// its text becomes quoted, which also settles white space here.
func limitTemplate(source string) (string, error) {
	if len(source) > maxTemplate {
		return "", fmt.Errorf("%d bytes; at most %d are allowed", len(source), maxTemplate)
	}
	for _, r := range source {
		if r >= veilFirst {
			return "", fmt.Errorf("uses the private character %U, which stands for message text here", r)
		}
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
	return b.String(), nil
}

// limitSegment checks and rewrites text or one tag.
func limitSegment(s segment) (string, error) {
	switch s.kind {
	case 't':
		return fmt.Sprintf("{{ __out('%s') }}", strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s.text)), nil
	case '#':
		return "", nil
	}
	list, err := checkTag(s.text)
	if err != nil {
		return "", err
	}
	if s.kind == '{' {
		if err := checkExpression(s.text); err != nil {
			return "", err
		}
		return fmt.Sprintf("{{ __out(%s) }}", s.text), nil
	}
	return limitStatement(s.text, list)
}

// limitStatement rewrites a statement, list being its tokens.
func limitStatement(text string, list []word) (string, error) {
	tag := "{% " + text + " %}"
	rest := strings.TrimSpace(strings.TrimPrefix(text, list[0].text))
	switch list[0].text {
	case "if", "elif":
		return tag, nil
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

// checkExpression refuses what is no expression by itself, so that wrapping it
// in a call means what it should.
func checkExpression(text string) error {
	_, err := compile("{{ " + text + " }}")
	return err
}

// checkTag refuses what could grow without limit, and returns the tag's tokens.
func checkTag(text string) ([]word, error) {
	if len(text) > maxTag {
		return nil, fmt.Errorf("a tag of %d bytes; at most %d are allowed", len(text), maxTag)
	}
	list, err := words(text)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("an empty tag")
	}
	operands, growth := 0, 1
	for i, w := range list {
		before := word{}
		if i > 0 {
			before = list[i-1]
		}
		factor := 1
		switch {
		case w.text == "*":
			return nil, errors.New("the operator * is not supported")
		case w.text == "[":
			err = checkStride(list[i:])
		case w.kind == 's':
			operands++
		case w.kind != 'n':
		case strings.HasPrefix(w.text, reserved):
			return nil, fmt.Errorf("the name %s is reserved", w.text)
		case before.text == "|":
			factor = filterGrowth[w.text]
			err = checkArguments(w.text, list[i+1:])
		case before.text == ".":
			if f, known := methodGrowth[w.text]; known {
				factor = f
			}
			if w.text == "replace" {
				err = checkArguments(w.text, list[i+1:])
			}
		default:
			if f, known := functionGrowth[w.text]; known {
				factor = f
			}
			operands++
		}
		if err != nil {
			return nil, err
		}
		if factor == 0 {
			return nil, fmt.Errorf("%s%s is not supported", before.text, w.text)
		}
		if growth *= factor; growth*max(operands, 1) > maxGrowth {
			return nil, errors.New("an expression that could grow too large; split it up")
		}
	}
	return list, nil
}

var errReplace = errors.New("replace is supported only with two literals, the second no longer than the first")

// checkStride refuses slices with a step, but for the reversal [::-1].
func checkStride(list []word) error {
	depth, colons := 0, 0
	for i, w := range list {
		switch {
		case strings.Contains("([{", w.text):
			depth++
		case strings.Contains(")]}", w.text):
			depth--
		case w.text == ":" && depth == 1:
			colons++
		}
		if colons == 2 && !(i == 2 && len(list) > 5 && list[3].text == "-" && list[4].text == "1" && list[5].text == "]") {
			return errors.New("slices with a step other than [::-1] are not supported")
		}
		if depth == 0 || colons == 2 {
			break
		}
	}
	return nil
}

// checkArguments refuses arguments that are not small literals, where a
// filter's or method's growth depends on them. list is what follows its name.
func checkArguments(name string, list []word) error {
	if !literalOnly[name] {
		return nil
	}
	if len(list) == 0 || list[0].text != "(" {
		if name == "replace" {
			return errReplace
		}
		return nil
	}
	var literals []string
	depth := 0
	for i, w := range list {
		ok := true
		switch w.text {
		case "(":
			depth++
		case ")":
			depth--
		case ",", "=", "true", "false", "none", "True", "False", "None":
		default:
			keyword := w.kind == 'n' && i+1 < len(list) && list[i+1].text == "="
			n, err := strconv.Atoi(w.text)
			number := err == nil && n <= maxLiteral
			text := w.kind == 's' && (len(w.text) <= maxLiteral+2 || !widens[name])
			ok = keyword || number || text
		}
		if !ok {
			return fmt.Errorf("%s: the argument %.40s is not a small literal", name, w.text)
		}
		if w.kind == 's' {
			literals = append(literals, w.text)
		}
		if depth == 0 {
			break
		}
	}
	switch {
	case name == "replace" && (len(literals) != 2 || len(literals[0]) <= 2 || len(literals[1]) > len(literals[0])):
		return errReplace
	case name == "map" && len(literals) > 0 && list[1].text != "attribute":
		return errors.New("map is supported only with attribute=")
	}
	return nil
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
