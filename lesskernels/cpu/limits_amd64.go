package cpu

// peakRounds runs VPDPBUSD on every thread and returns the operations done.
func peakRounds(p *Pool, rounds int) float64 {
	if Best() < AVX512 {
		return 0
	}
	p.Run(p.threads, func(int) { peakAVX512(uintptr(rounds)) })
	return float64(p.threads*rounds) * 12 * 64 * 2
}
