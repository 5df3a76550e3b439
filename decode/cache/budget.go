package cache

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Budget says how much one sequence may keep, in one of three units. The zero
// Budget leaves the amount to whoever plans: see NewPlan.
type Budget struct {
	Percent float64 // of the model's maximum context, in (0, 100]
	Tokens  int     // per KV head, the current token not counted
	Bytes   int64   // for one sequence, everything included
}

// BudgetError tells that a text is no budget.
type BudgetError struct {
	Text   string
	Reason string
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf(`budget %q: %s; give a share of the model's context ("5%%"), tokens ("512") or bytes for one sequence ("16MiB")`,
		e.Text, e.Reason)
}

// byteUnits are the suffixes of a budget in bytes.
var byteUnits = []struct {
	suffix string
	bytes  float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

// ParseBudget reads "5%", "512" or "16MiB" (KiB, MiB, GiB).
func ParseBudget(text string) (Budget, error) {
	fail := func(reason string) (Budget, error) {
		return Budget{}, &BudgetError{Text: text, Reason: reason}
	}
	trimmed := strings.TrimSpace(text)
	if number, ok := strings.CutSuffix(trimmed, "%"); ok {
		percent, err := strconv.ParseFloat(number, 64)
		if err != nil || !(percent > 0 && percent <= 100) {
			return fail("a percentage is above 0 and at most 100")
		}
		return Budget{Percent: percent}, nil
	}
	for _, unit := range byteUnits {
		if number, ok := strings.CutSuffix(trimmed, unit.suffix); ok {
			amount, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			bytes := amount * unit.bytes
			if err != nil || !(bytes >= 1 && bytes < math.MaxInt64/2) {
				return fail("the number of bytes is not a positive amount")
			}
			return Budget{Bytes: int64(bytes)}, nil
		}
	}
	tokens, err := strconv.Atoi(trimmed)
	if err != nil {
		return fail("not a number")
	}
	if tokens < 1 || tokens > math.MaxInt32 {
		return fail("a number of tokens is at least 1")
	}
	return Budget{Tokens: tokens}, nil
}

// IsZero tells whether no amount was given.
func (b Budget) IsZero() bool { return b == Budget{} }

// String is a text that ParseBudget reads; "" for the zero Budget.
func (b Budget) String() string {
	switch {
	case b.Percent != 0:
		return strconv.FormatFloat(b.Percent, 'f', -1, 64) + "%"
	case b.Tokens != 0:
		return strconv.Itoa(b.Tokens)
	case b.Bytes == 0:
		return ""
	}
	for i := len(byteUnits) - 1; i > 0; i-- {
		if unit := int64(byteUnits[i].bytes); b.Bytes%unit == 0 {
			return strconv.FormatInt(b.Bytes/unit, 10) + byteUnits[i].suffix
		}
	}
	return strconv.FormatFloat(float64(b.Bytes)/byteUnits[0].bytes, 'f', -1, 64) + byteUnits[0].suffix
}
