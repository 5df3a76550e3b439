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
	opcodes["fma.rn.bf16x2"] = three(32, func(a, b, c uint64) uint64 {
		low := toBF16(fused(fromBF16(a&0xffff), fromBF16(b&0xffff), fromBF16(c&0xffff)))
		return low | toBF16(fused(fromBF16(a>>16&0xffff), fromBF16(b>>16&0xffff), fromBF16(c>>16&0xffff)))<<16
	})
}

func magnitude(a float32) float32 { return math.Float32frombits(math.Float32bits(a) &^ (1 << 31)) }
