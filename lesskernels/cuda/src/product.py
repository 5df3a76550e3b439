"""Products with weights of 16 and of 32 bits, and rows of them.

Weights [outs, cols] lie in groups of 32 neighbouring columns, for each group all rows one after the
other, so that neighbouring rows are read together. Sums are float32, in whatever tile a row of activations stands in
the same order.

    numbers  w [cols/32, outs, 32] bf16, f16 or f32
    x        [rows, cols] bf16
    y        [rows, stride] f32, of which the first outs are written
"""
import triton
import triton.language as tl


@triton.jit
def multiply_numbers(x, numbers, y, rows, outs, cols, stride,
                     PARTS: tl.constexpr, BO: tl.constexpr, BR: tl.constexpr):
    """y[r, o] = Σ x[r, c] w[o, c] of BO outputs and BR rows. A weight is the sum of PARTS numbers in bf16: of two an f16 is,
    and of three an f32, exactly."""
    o = tl.program_id(0) * BO + tl.arange(0, BO)
    r = tl.program_id(1) * BR + tl.arange(0, BR)
    j = tl.arange(0, 32)
    have_o = o < outs
    have_r = r < rows
    number = o.to(tl.int64)[:, None] * 32 + j[None, :]
    xs = x + r.to(tl.int64)[None, :] * cols + j[:, None]
    total = tl.zeros([BO, BR], tl.float32)
    for g in range(0, cols // 32):
        w = tl.load(numbers + g.to(tl.int64) * outs * 32 + number, mask=have_o[:, None], other=0.0)
        v = tl.load(xs + g * 32, mask=have_r[None, :], other=0.0)
        high = w.to(tl.bfloat16)
        total = tl.dot(high, v, total)
        left = w.to(tl.float32)
        for _ in tl.static_range(1, PARTS):
            left = left - high.to(tl.float32)
            high = left.to(tl.bfloat16)
            total = tl.dot(high, v, total)
    tl.store(y + r.to(tl.int64)[None, :] * stride + o[:, None], total, mask=have_o[:, None] & have_r[None, :])


@triton.jit
def embed_numbers(tokens, numbers, x, outs, cols, BLOCK: tl.constexpr):
    """x[i, :] f32 = row tokens[i] of the weights; program (i, block of columns)."""
    i = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < cols
    at = ((c // 32).to(tl.int64) * outs + tl.load(tokens + i)) * 32 + c % 32
    tl.store(x + i * cols + c, tl.load(numbers + at, mask=inside, other=0.0).to(tl.float32), mask=inside)
