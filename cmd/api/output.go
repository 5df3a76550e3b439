package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// printJSON writes the one object that --json promises on standard output.
func printJSON(v any) error {
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// bytesText is n in the unit that a person would choose.
func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, suffix := float64(n)/unit, "KiB"
	for _, next := range []string{"MiB", "GiB", "TiB"} {
		if value < unit {
			break
		}
		value, suffix = value/unit, next
	}
	return fmt.Sprintf("%.1f %s", value, suffix)
}

// noteState writes why states that a cache asks for were not used, if they were not.
func noteState(w io.Writer, note string) {
	if note != "" {
		fmt.Fprintln(w, "less:", note)
	}
}
