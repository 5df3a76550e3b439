package bench

import (
	"os"
	"strings"
)

// Processor is this machine's processor as it names itself; "" where there is no
// /proc.
func Processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	return processorOf(string(info))
}

func processorOf(info string) string {
	for line := range strings.Lines(info) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
