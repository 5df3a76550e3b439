package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// loudest is the share of the machine that other programs may take during a run
// that counts.
const loudest = 0.1

// processors is what all processors of the machine have done since it started.
type processors struct{ busy, total float64 } // ticks; what the host gave to others counts as busy

// share is the part of the machine's time between two readings that neither was
// idle nor ours; ours is in seconds of one processor.
func (p processors) share(since processors, ours, wall time.Duration) float64 {
	total := p.total - since.total
	if total <= 0 || wall <= 0 {
		return 0
	}
	count := total / ticks / wall.Seconds()
	return max(0, (p.busy-since.busy)/total-ours.Seconds()/(wall.Seconds()*count))
}

// ticks of Linux in a second, whatever its own clock is.
const ticks = 100

// readProcessors reads /proc/stat; zeros where there is none, and so no run is loud.
func readProcessors() processors {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return processors{}
	}
	p, err := processorsOf(string(stat))
	if err != nil {
		return processors{}
	}
	return p
}

// processorsOf reads the first line: user, nice, system, idle, iowait, irq, softirq,
// steal; what follows is counted in those already.
func processorsOf(stat string) (processors, error) {
	fields := strings.Fields(stat)
	if len(fields) < 9 || fields[0] != "cpu" {
		return processors{}, fmt.Errorf("/proc/stat begins with %.40q", stat)
	}
	var p processors
	for i, field := range fields[1:9] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return processors{}, fmt.Errorf("/proc/stat: %w", err)
		}
		p.total += n
		if i != 3 && i != 4 {
			p.busy += n
		}
	}
	return p, nil
}

// usedBy is the processor time of a process so far; zero where it cannot be read.
func usedBy(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return usedOf(string(stat))
}

// usedOf reads utime and stime, the 14th and 15th field; the 2nd, a name in
// brackets, may hold anything.
func usedOf(stat string) time.Duration {
	_, rest, _ := strings.Cut(stat[max(0, strings.LastIndexByte(stat, ')')):], " ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / ticks
}
