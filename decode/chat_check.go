package decode

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

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
		if growth *= factor; operands > maxOperands || growth*max(operands, 1) > maxGrowth {
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
