package recall

import (
	"regexp"
	"slices"
	"strings"
)

// setting is a fact of real documentation: the default value of a parameter.
type setting struct {
	page     string
	name     string
	value    string
	sentence string // what says so, to the end of the value
	passage  string // the parameter's heading and what follows it
}

// head of a parameter's explanation, and what says its default.
var (
	settingHead    = regexp.MustCompile(`(?m)^([a-z_.]+_[a-z_]+) \((?:integer|floating point|boolean|string|enum)\)\n`)
	settingDefault = regexp.MustCompile(`[Tt]he default(?: value)? is ([a-z0-9_.]*[a-z0-9]|[0-9]+[a-zA-Z]+)(?: \(|[.,;]| [a-z]+)`)
)

// notValues look like values and are not, or can be guessed without reading.
var notValues = []string{
	"to", "that", "set", "the", "a", "an", "determined", "typically", "usually", "zero", "empty", "no", "not", "none", "used",
	"taken", "for", "also", "currently", "on", "off", "true", "false", "yes",
}

const (
	settingReach  = 1400 // bytes after a heading in which its default is looked for
	passageReach  = 900  // bytes of an explanation that a passage quotes
	longestAnswer = 14
)

// settings finds the facts of a page, in order.
func settings(p Page) []setting {
	var found []setting
	heads := settingHead.FindAllStringSubmatchIndex(p.Text, -1)
	for i, head := range heads {
		end := min(len(p.Text), head[1]+settingReach)
		if i+1 < len(heads) {
			end = min(end, heads[i+1][0])
		}
		body := p.Text[head[1]:end]
		match := settingDefault.FindStringSubmatchIndex(body)
		if match == nil {
			continue
		}
		value := body[match[2]:match[3]]
		if slices.Contains(notValues, value) || len(value) > longestAnswer || match[3] > passageReach {
			continue
		}
		found = append(found, setting{
			page: p.Name, name: p.Text[head[2]:head[3]], value: value,
			sentence: body[match[0]:match[3]],
			passage:  p.Text[head[0]:head[1]] + strings.ToValidUTF8(body[:min(len(body), passageReach)], ""),
		})
	}
	return found
}
