package ptx

import "math"

func init() {
	for op, f := range map[string]func(a, b float32) float32{
		"add.f32":      func(a, b float32) float32 { return a + b },
		"sub.f32":      func(a, b float32) float32 { return a - b },
		"mul.f32":      func(a, b float32) float32 { return a * b },
		"mul.rn.f32":   func(a, b float32) float32 { return a * b },
		"min.f32":      smaller,
		"max.f32":      larger,
		"div.rn.f32":   func(a, b float32) float32 { return a / b },
		"div.full.f32": func(a, b float32) float32 { return rough(float64(a) / float64(b)) },
	} {
		opcodes[op] = two(32, func(a, b uint64) uint64 { return bitsOf(f(f32(a), f32(b))) })
	}
	for op, f := range map[string]func(a float32) float32{
		"neg.f32":             func(a float32) float32 { return -a },
		"abs.f32":             magnitude,
		"abs.ftz.f32":         func(a float32) float32 { return flush(magnitude(a)) },
		"ex2.approx.f32":      func(a float32) float32 { return rough(math.Exp2(float64(a))) },
		"ex2.approx.ftz.f32":  func(a float32) float32 { return flush(rough(math.Exp2(float64(flush(a))))) },
		"lg2.approx.f32":      func(a float32) float32 { return rough(math.Log2(float64(a))) },
		"lg2.approx.ftz.f32":  func(a float32) float32 { return flush(rough(math.Log2(float64(flush(a))))) },
		"sqrt.approx.ftz.f32": func(a float32) float32 { return flush(rough(math.Sqrt(float64(flush(a))))) },
	} {
		opcodes[op] = one(32, func(a uint64) uint64 { return bitsOf(f(f32(a))) })
	}
	opcodes["add.f64"] = two(64, func(a, b uint64) uint64 {
		return math.Float64bits(math.Float64frombits(a) + math.Float64frombits(b))
	})
	// Rounding a float64 sum to float32 may round twice: by less than a bit of the last
	// place more than once.
	fused := func(a, b, c float32) float32 { return float32(float64(a)*float64(b) + float64(c)) }
	opcodes["fma.rn.f32"] = three(32, func(a, b, c uint64) uint64 { return bitsOf(fused(f32(a), f32(b), f32(c))) })
	opcodes["fma.rn.ftz.f32"] = three(32, func(a, b, c uint64) uint64 {
		return bitsOf(flush(fused(flush(f32(a)), flush(f32(b)), flush(f32(c)))))
	})
	for t, of := range map[string]struct {
		from func(uint64) float32
		to   func(float32) uint64
	}{"bf16x2": {fromBF16, toBF16}, "f16x2": {fromF16, toF16}} {
		low := func(x uint64) float32 { return of.from(x & 0xffff) }
		high := func(x uint64) float32 { return of.from(x >> 16 & 0xffff) }
		opcodes["fma.rn."+t] = three(32, func(a, b, c uint64) uint64 {
			return of.to(fused(low(a), low(b), low(c))) | of.to(fused(high(a), high(b), high(c)))<<16
		})
		opcodes["mul.rn."+t] = two(32, func(a, b uint64) uint64 { return of.to(low(a)*low(b)) | of.to(high(a)*high(b))<<16 })
		opcodes["neg."+t] = one(32, func(a uint64) uint64 { return a ^ 0x80008000 })
	}
}

func magnitude(a float32) float32 { return math.Float32frombits(math.Float32bits(a) &^ (1 << 31)) }
