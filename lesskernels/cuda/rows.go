package cuda

import "lessrag/lesskernels/cuda/device"

const elementBlock = 1024 // of src/rows.py

// Norm writes to normed [rows, width] bf16 the RMSNorm of x [rows, width] f32 with weight
// [width] f32.
func (k *Kernels) Norm(s device.Stream, x, weight, normed device.Pointer, rows, width int, epsilon float32) error {
	return k.norm(s, "norm", x, 0, weight, normed, 0, rows, width, epsilon)
}

// AddNorm first adds delta [rows, width] f32 to x.
func (k *Kernels) AddNorm(s device.Stream, x, delta, weight, normed device.Pointer, rows, width int, epsilon float32) error {
	return k.norm(s, "add_norm", x, delta, weight, normed, 0, rows, width, epsilon)
}

// PickNorm writes the RMSNorm of row pick[i] of x to row i of normed; pick [rows] i32.
func (k *Kernels) PickNorm(s device.Stream, x, pick, weight, normed device.Pointer, rows, width int, epsilon float32) error {
	return k.norm(s, "pick_norm", x, 0, weight, normed, pick, rows, width, epsilon)
}

func (k *Kernels) norm(s device.Stream, name string, x, delta, weight, normed, pick device.Pointer, rows, width int, epsilon float32) error {
	return k.launch(s, name, device.Grid{X: rows, Y: 1, Z: 1}, address(x), address(delta), address(weight), address(normed), address(pick),
		device.I32(width), device.F32(epsilon))
}

// Add adds delta to x, n numbers of f32.
func (k *Kernels) Add(s device.Stream, x, delta device.Pointer, n int) error {
	return k.launch(s, "add", device.Grid{X: blocks(n, elementBlock), Y: 1, Z: 1}, address(x), address(delta), device.I32(n))
}

// SwiGLU writes to out bf16 what gate and up, n numbers of f32 each, give.
func (k *Kernels) SwiGLU(s device.Stream, gate, up, out device.Pointer, n int) error {
	return k.launch(s, "swiglu", device.Grid{X: blocks(n, elementBlock), Y: 1, Z: 1}, address(gate), address(up), address(out), device.I32(n))
}
