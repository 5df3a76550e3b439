package bench

import (
	"context"
	"fmt"
	"os/exec"
)

// keepBusy starts n processes that compute for nothing, each fit to fill a core,
// until stop is called or ctx ends.
func keepBusy(ctx context.Context, n int) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running []*exec.Cmd
	stop = func() {
		cancel()
		for _, c := range running {
			c.Wait() // it was killed, and says so
		}
	}
	for range n {
		c := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := c.Start(); err != nil {
			stop()
			return nil, fmt.Errorf("starting a busy process: %w", err)
		}
		running = append(running, c)
	}
	return stop, nil
}
