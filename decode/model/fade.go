package model

import (
	"lessrag/decode/cache"
	"lessrag/lesskernels/cpu"
)

// hour is the first time of a clock that is not before a position.
func hour(position int32) int {
	return (int(position) + cache.ClockStep - 1) / cache.ClockStep * cache.ClockStep
}

// add adds tokens at positions to a state: ψ [n, rank], which it uses up, and values. Where features fade,
// the sums are as old as the state's clock: what they hold at position p counts e^(−λ·(clock−p)).
func (c *CPU) add(state *cache.State, layer, head int, psi []float32, values []uint16, positions []int32) {
	maps, rank, stored := c.memory.maps[layer], len(state.Z), c.stored
	if !maps.Fades() {
		cpu.Absorb(c.isa, state.H, state.Z, psi, values)
		return
	}
	for len(positions) > 0 {
		wind(maps.Rates(head), state, hour(positions[0]))
		n := 1
		for n < len(positions) && hour(positions[n]) <= state.Clock {
			n++
		}
		maps.Fade(psi, head, 1, n, func(i int) int { return state.Clock - int(positions[i]) })
		cpu.Absorb(c.isa, state.H, state.Z, psi[:n*rank], values[:n*stored])
		psi, values, positions = psi[n*rank:], values[n*stored:], positions[n:]
	}
}

// wind puts a state's clock forward, where features fade at some rates.
func wind(rates []float64, state *cache.State, clock int) {
	if rates != nil && clock > state.Clock {
		cpu.FadeSums(rates, state.H, state.Z, clock-state.Clock)
		state.Clock = clock
	}
}
