package retrieve

import "strings"

// maxInfo bounds what is waited for of the words behind a code block's opening.
const maxInfo = 128

// fenceLength returns the bytes of the blanks and the run of ``` or ~~~ that
// open a code block at the start of a line, 0 when none opens; wait is true
// when only more text can tell.
func fenceLength(line string, final bool) (n int, wait bool) {
	n = countBlanks(line)
	if n > 3 {
		return 0, false
	}
	if n == len(line) {
		return 0, !final
	}
	mark := line[n : n+1]
	if mark != "`" && mark != "~" {
		return 0, false
	}
	info := strings.TrimLeft(line[n:], mark)
	run := len(line) - n - len(info)
	switch i := strings.IndexAny(info[:min(len(info), maxInfo)], "`\n"); {
	case info == "" && !final:
		return 0, true
	case run < 3:
		return 0, false
	case mark == "~":
		return n + run, false
	case i >= 0 && info[i] == '`':
		return 0, false // a code span of three backticks
	case i < 0 && len(info) < maxInfo && !final:
		return 0, true
	}
	return n + run, false
}

func (c *Citer) openFence(n int) bool {
	c.settle()
	c.fence = strings.TrimLeft(c.in[:n], " \t")
	c.verbatim(n)
	return true
}

// stepFence takes a piece of a code block; a line of at least as many marks
// as opened it closes it.
func (c *Citer) stepFence(final bool) bool {
	if c.newLine {
		closed, n, wait := c.closing(final)
		if wait {
			return false
		}
		if closed {
			c.fence = ""
			c.verbatim(n)
			return true
		}
	}
	n := strings.IndexByte(c.in, '\n') + 1
	if n > 0 {
		c.verbatim(n)
		c.newLine = true
		return true
	}
	c.verbatim(len(c.in))
	return true
}

// closing tells whether the line at hand closes the code block, in n bytes.
func (c *Citer) closing(final bool) (closed bool, n int, wait bool) {
	blanks := countBlanks(c.in)
	rest := strings.TrimLeft(c.in[blanks:], c.fence[:1])
	run := len(c.in) - blanks - len(rest)
	after := countBlanks(rest)
	tail := rest[after:]
	switch {
	case blanks > maxLookahead || after > maxLookahead:
		return false, 0, false
	case tail == "" && !final:
		return false, 0, true
	case run < len(c.fence) || tail != "" && tail[0] != '\n' && tail[0] != '\r':
		return false, 0, false
	}
	return true, len(c.in) - len(tail), false
}

// verbatim shows n bytes that belong to no sentence.
func (c *Citer) verbatim(n int) {
	c.shown.WriteString(c.in[:n])
	c.consume(n)
	c.newLine = false
}
