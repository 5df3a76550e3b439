package retrieve

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of a filter.
const (
	maxConditions  = 32
	maxChoices     = 100 // values of one "in"
	maxFilterBytes = 4 << 10
)

// condition is one comparison of a document's metadata, every part of it checked.
type condition struct {
	key   string
	op    string
	value any // as the operator's SQL parameter
}

// operators are all that a filter can say. In each, the first parameter is
// the key and the second the value; nothing of the caller's text is in the SQL.
// A list in the metadata equals each of its members.
var operators = map[string]string{
	"eq":     `coalesce(metadata -> %[1]s @> %[2]s::jsonb, false)`,
	"ne":     `NOT coalesce(metadata -> %[1]s @> %[2]s::jsonb, false)`,
	"lt":     `(jsonb_typeof(metadata -> %[1]s) = jsonb_typeof(%[2]s::jsonb) AND metadata -> %[1]s < %[2]s::jsonb)`,
	"lte":    `(jsonb_typeof(metadata -> %[1]s) = jsonb_typeof(%[2]s::jsonb) AND metadata -> %[1]s <= %[2]s::jsonb)`,
	"gt":     `(jsonb_typeof(metadata -> %[1]s) = jsonb_typeof(%[2]s::jsonb) AND metadata -> %[1]s > %[2]s::jsonb)`,
	"gte":    `(jsonb_typeof(metadata -> %[1]s) = jsonb_typeof(%[2]s::jsonb) AND metadata -> %[1]s >= %[2]s::jsonb)`,
	"in":     `EXISTS (SELECT FROM jsonb_array_elements(%[2]s::jsonb) choice WHERE metadata -> %[1]s @> choice)`,
	"exists": `(metadata ? %[1]s) = %[2]s::boolean`,
}

// parseFilter checks a filter and returns its conditions in a fixed order.
func parseFilter(filter map[string]any) ([]condition, error) {
	var all []condition
	for _, key := range slices.Sorted(maps.Keys(filter)) {
		if err := checkText(key); err != "" || len(key) > maxNameBytes {
			return nil, &InvalidError{"filter", fmt.Sprintf("key %.40q must be valid UTF-8 without NUL, at most %d bytes long", key, maxNameBytes)}
		}
		comparisons, ok := filter[key].(map[string]any)
		if !ok {
			comparisons = map[string]any{"eq": filter[key]}
		}
		if len(comparisons) == 0 {
			return nil, &InvalidError{"filter." + key, "has no operator"}
		}
		for _, op := range slices.Sorted(maps.Keys(comparisons)) {
			c, reason := newCondition(key, op, comparisons[op])
			if reason != "" {
				return nil, &InvalidError{"filter." + key, reason}
			}
			all = append(all, c)
		}
	}
	if len(all) > maxConditions {
		return nil, &InvalidError{"filter", fmt.Sprintf("has %d conditions, at most %d are allowed", len(all), maxConditions)}
	}
	return all, nil
}

// newCondition checks one comparison; reason says what is wrong with it.
func newCondition(key, op string, value any) (c condition, reason string) {
	switch op {
	case "eq", "ne":
		reason = checkScalar(value)
	case "lt", "lte", "gt", "gte":
		if reason = checkScalar(value); reason == "" && !ordered(value) {
			reason = op + " compares with a number or a string"
		}
	case "in":
		choices, ok := value.([]any)
		if !ok || len(choices) == 0 || len(choices) > maxChoices {
			return c, fmt.Sprintf("in takes a list of 1 to %d values", maxChoices)
		}
		for _, choice := range choices {
			if reason = checkScalar(choice); reason != "" {
				return c, reason
			}
		}
	case "exists":
		on, ok := value.(bool)
		if !ok {
			return c, "exists takes true or false"
		}
		return condition{key, op, on}, ""
	default:
		return c, fmt.Sprintf("unknown operator %.40q: use eq, ne, lt, lte, gt, gte, in or exists", op)
	}
	if reason != "" {
		return c, reason
	}
	data, err := json.Marshal(value)
	if err != nil {
		return c, err.Error()
	}
	return condition{key, op, string(data)}, ""
}

// checkScalar accepts what JSON calls a string, a number, true, false or null.
func checkScalar(value any) (reason string) {
	switch v := value.(type) {
	case nil, bool, int, int64:
		return ""
	case string:
		if len(v) > maxFilterBytes {
			return fmt.Sprintf("value must be at most %d bytes", maxFilterBytes)
		}
		return checkText(v)
	case json.Number:
		if f, err := v.Float64(); err != nil || math.IsInf(f, 0) || math.IsNaN(f) || len(v) > 64 {
			return fmt.Sprintf("number %.40q is out of range", string(v))
		}
		return ""
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return "number must be finite"
		}
		return ""
	}
	return "value must be a string, a number, true, false or null"
}

func ordered(value any) bool {
	switch value.(type) {
	case string, int, int64, float64, json.Number:
		return true
	}
	return false
}

// checkText refuses what Postgres cannot store as text.
func checkText(s string) (reason string) {
	switch {
	case !utf8.ValidString(s):
		return "must be valid UTF-8"
	case strings.ContainsRune(s, 0):
		return "must not contain NUL"
	}
	return ""
}
