package ptx

import (
	"regexp"
	"strconv"
	"strings"
)

// poison is what registers hold before they are written: no number, and no address.
const poison = 0x7ff7dead7fc1dead

// register takes 32 lanes.
func (p *parser) register() int {
	at := len(p.initial)
	for range 32 {
		p.initial = append(p.initial, poison)
	}
	return at
}

func (p *parser) constant(value uint64) int {
	at := p.register()
	for i := range 32 {
		p.initial[at+i] = value
	}
	return at
}

// specials tell a thread where it is.
var specials = map[string]bool{"%tid.x": true, "%ctaid.x": true, "%ctaid.y": true, "%ctaid.z": true,
	"%nctaid.x": true, "%nctaid.y": true, "%nctaid.z": true}

// source is where the lanes of an operand that is read lie.
func (p *parser) source(s string) int {
	if at, ok := p.registers[s]; ok {
		return at
	}
	if specials[s] {
		at := p.register()
		p.registers[s], p.specials[s] = at, at
		return at
	}
	at := p.constant(literal(s))
	p.registers[s] = at
	return at
}

// literal is the bits of a number in the text.
func literal(s string) uint64 {
	for prefix, size := range map[string]int{"0f": 32, "0d": 64} {
		if bits, ok := strings.CutPrefix(s, prefix); ok {
			x, err := strconv.ParseUint(bits, 16, size)
			if err != nil || len(bits) != size/4 {
				refuse("unknown operand %q", s)
			}
			return x
		}
	}
	digits := strings.TrimSuffix(s, "U")
	if x, err := strconv.ParseInt(digits, 0, 64); err == nil {
		return uint64(x)
	}
	x, err := strconv.ParseUint(digits, 0, 64)
	if err != nil {
		refuse("unknown operand %q", s)
	}
	return x
}

// target is where the lanes of an operand that is written lie.
func (p *parser) target(s string, bits int) int {
	width, ok := p.widths[s]
	if !ok || width != bits {
		refuse("%q is no register of %d bits", s, bits)
	}
	return p.registers[s]
}

// members are the elements of {a, b}, or of a alone.
func members(s string) []string {
	if inner, ok := strings.CutPrefix(s, "{"); ok {
		return divide(strings.TrimSpace(strings.TrimSuffix(inner, "}")))
	}
	return []string{s}
}

func (p *parser) sources(s string) []int {
	var out []int
	for _, m := range members(s) {
		out = append(out, p.source(m))
	}
	return out
}

func (p *parser) targets(s string, bits int) []int {
	var out []int
	for _, m := range members(s) {
		out = append(out, p.target(m, bits))
	}
	return out
}

// widerTargets are targets that may be wider, whose upper bits become 0: of loads.
func (p *parser) widerTargets(s string, bits int) []int {
	if width := p.widths[members(s)[0]]; width > bits {
		bits = width
	}
	return p.targets(s, bits)
}

var addressForm = regexp.MustCompile(`^\[ ?([%\w]+)( ?\+ ?(-?\w+))? ?\]$`)

// address is [register + offset].
func (p *parser) address(s string) (base int, offset uint64) {
	m := addressForm.FindStringSubmatch(s)
	if m == nil {
		refuse("unknown address %q", s)
	}
	if m[3] != "" {
		offset = literal(m[3])
	}
	return p.source(m[1]), offset
}

// need checks how many operands there are.
func need(operands []string, n int) {
	if len(operands) != n {
		refuse("%d operands in place of %d", len(operands), n)
	}
}
