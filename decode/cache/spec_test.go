package cache

import (
	"errors"
	"strings"
	"testing"
)

func TestParseSpec(t *testing.T) {
	for text, want := range map[string]Spec{
		"full":                     {Policy: Full},
		" sinks ":                  {Policy: Sinks},
		"vote+less":                {Policy: "vote", State: "less"},
		"h2o+moment+kivi4+think40": {Policy: "h2o", State: "moment", Bits: 4, Think: 40},
		"full+kivi2":               {Policy: Full, Bits: 2},
		"h2o+think+kivi4+less":     {Policy: "h2o", State: "less", Bits: 4, Think: 40},
		"sinks+think25":            {Policy: Sinks, Think: 25},
		"corm+moment+think90":      {Policy: CORM, State: "moment", Think: 90},
	} {
		got, err := ParseSpec(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
		again, err := ParseSpec(got.String())
		if err != nil || again != got {
			t.Errorf("%q prints as %q, which is %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "lru", "+less", "h2o+", "h2o+less+moment", "h2o+kivi2+kivi4", "h2o+kivi3",
		"tova+think40+think40", "tova+think+think20", "tova+think0", "tova+think91", "tova+think07", "tova+think-1", "tova+thin", "elastic+moment", "full+less", "elastic+less", "elastic-values+moment", "H2O", "h2o less", strings.Repeat("h2o+", 100)} {
		var wrong *SpecError
		if spec, err := ParseSpec(text); !errors.As(err, &wrong) {
			t.Errorf("%q: %+v, %v; want a *SpecError", text, spec, err)
		}
	}
}

// Parts that exclude each other are refused with the reason.
func TestConflicts(t *testing.T) {
	for text, reason := range map[string]string{
		"full+less+kivi4":   "nothing to absorb",
		"elastic+less":      "count it twice",
		"elastic+moment":    "count it twice",
		"sinks+kivi2+kivi4": "one precision",
		"buzz+kivi4":        "cannot be turned",
		"cascade+think":     "cannot be turned",
	} {
		if _, err := ParseSpec(text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v, want a reason with %q", text, err, reason)
		}
	}
	for _, policy := range policies {
		err := Spec{Policy: policy}.Blends()
		var wrong *SpecError
		if refused := errors.As(err, &wrong); refused != (policy == Cascade) || refused && !strings.Contains(wrong.Reason, "chunk by chunk") {
			t.Errorf("%s and stored passages: %v", policy, err)
		}
	}
}

func TestAvailable(t *testing.T) {
	for _, text := range []string{"full", "sinks", "streaming", "h2o", "tova", "snapkv", "h2o+less", "sinks+moment",
		"buzz", "buzz+less", "corm+moment", "cascade+less", "elastic", "elastic-values", "h2o+kivi4", "sinks+think40", "full+kivi2"} {
		spec, err := ParseSpec(text)
		if err != nil || spec.Available() != nil {
			t.Errorf("%s: %v, %v", text, err, spec.Available())
		}
	}
	if err := (Spec{}).Available(); err != nil {
		t.Errorf("the zero Spec: %v", err)
	}
	var missing *UnavailableError
	if err := (Spec{Policy: "sieve"}).Available(); !errors.As(err, &missing) || !strings.HasPrefix(err.Error(), "cache sieve is not available in this build; available: full, sinks, ") {
		t.Errorf("an unknown policy: %v", err)
	}
}

func TestParseBudget(t *testing.T) {
	for text, want := range map[string]Budget{
		"5%":     {Percent: 5},
		"12.5%":  {Percent: 12.5},
		"100%":   {Percent: 100},
		"512":    {Tokens: 512},
		"16MiB":  {Bytes: 16 << 20},
		"1.5GiB": {Bytes: 3 << 29},
		"100KiB": {Bytes: 100 << 10},
		" 7 MiB": {Bytes: 7 << 20},
	} {
		got, err := ParseBudget(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
		if again, err := ParseBudget(got.String()); err != nil || again != got {
			t.Errorf("%q prints as %q, which is %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "0", "-5", "0%", "101%", "NaN%", "1e99MiB", "NaNMiB", "-1KiB", "5 percent", "12MB", "99999999999999", "0x10", "1.5"} {
		_, err := ParseBudget(text)
		var wrong *BudgetError
		if !errors.As(err, &wrong) {
			t.Errorf("%q: %v, want a *BudgetError", text, err)
			continue
		}
		for _, form := range []string{"5%", "512", "16MiB"} {
			if !strings.Contains(err.Error(), form) {
				t.Errorf("%q: %q does not show the form %s", text, err, form)
			}
		}
	}
}

// Whatever the text, parsing ends in a value that prints as itself, or an error.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"vote+less+kivi4+think40", "5%", "16MiB", "1e308GiB", "+%", "0.0000001KiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if spec, err := ParseSpec(text); err == nil {
			if again, err := ParseSpec(spec.String()); err != nil || again != spec {
				t.Errorf("%q: %v, %v", text, again, err)
			}
		}
		if budget, err := ParseBudget(text); err == nil {
			if again, err := ParseBudget(budget.String()); err != nil || again != budget {
				t.Errorf("%q: %+v prints as %s, which is %+v, %v", text, budget, budget, again, err)
			}
		}
	})
}
