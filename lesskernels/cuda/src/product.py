"""Products with quantised weights, and rows of them.

Weights [outs, cols] lie in groups of neighbouring columns, for each group all rows one after the
other, so that neighbouring rows are read together. A code times an activation is exact in bf16, and the
sums of a group are float32, so a product is as exact as its activations. Activations are added up by the
matrix unit too: in whatever tile a row stands, in the same order.

    nibbles  codes [cols/32, outs, 16] u8: byte j holds column j (low) and 16+j (high) of the group
             scales, offsets [cols/32, outs] f16;   w = scale · code + offset
    octets   codes [cols/G, outs, G] i8, scales [cols/G, outs] f16;   w = scale · code
    offset   as octets, with offsets [cols/G, outs] f16;   w = scale · code + offset
    numbers  w [cols/32, outs, 32] f16 or bf16
    x        [rows, cols] bf16
    y        [rows, stride] f32, of which the first outs are written
"""
import triton
import triton.language as tl


@triton.jit
def multiply_nibbles(x, codes, scales, offsets, y, rows, outs, cols, stride,
                     BO: tl.constexpr, BR: tl.constexpr):
    """y[r, o] = Σ x[r, c] w[o, c] of BO outputs and BR rows."""
    o = tl.program_id(0) * BO + tl.arange(0, BO)
    r = tl.program_id(1) * BR + tl.arange(0, BR)
    j = tl.arange(0, 16)
    have_o = o < outs
    have_r = r < rows
    ones = tl.full([16, 16], 1.0, tl.bfloat16)
    byte = o.to(tl.int64)[:, None] * 16 + j[None, :]
    xs = x + r.to(tl.int64)[None, :] * cols + j[:, None]
    total = tl.zeros([BO, BR], tl.float32)
    for g in range(0, cols // 32):
        at = g.to(tl.int64) * outs
        b = tl.load(codes + at * 16 + byte, mask=have_o[:, None], other=0)
        scale = tl.load(scales + at + o, mask=have_o, other=0.0).to(tl.float32)
        offset = tl.load(offsets + at + o, mask=have_o, other=0.0).to(tl.float32)
        low = tl.load(xs + g * 32, mask=have_r[None, :], other=0.0)
        high = tl.load(xs + g * 32 + 16, mask=have_r[None, :], other=0.0)
        sums = tl.dot(ones, high, tl.dot(ones, low))  # all rows are the same
        part = tl.dot((b & 15).to(tl.float32).to(tl.bfloat16), low)
        part = tl.dot((b >> 4).to(tl.float32).to(tl.bfloat16), high, part)
        total += part * scale[:, None] + offset[:, None] * tl.max(sums, 0)[None, :]
    tl.store(y + r.to(tl.int64)[None, :] * stride + o[:, None], total, mask=have_o[:, None] & have_r[None, :])


@triton.jit
def multiply_octets(x, codes, scales, offsets, y, rows, outs, cols, stride,
                    G: tl.constexpr, OFFSET: tl.constexpr, BO: tl.constexpr, BR: tl.constexpr):
    """y[r, o] = Σ x[r, c] w[o, c] of BO outputs and BR rows."""
    o = tl.program_id(0) * BO + tl.arange(0, BO)
    r = tl.program_id(1) * BR + tl.arange(0, BR)
    j = tl.arange(0, G)
    have_o = o < outs
    have_r = r < rows
    ones = tl.full([16, G], 1.0, tl.bfloat16)
    code = o.to(tl.int64)[:, None] * G + j[None, :]
    xs = x + r.to(tl.int64)[None, :] * cols + j[:, None]
    total = tl.zeros([BO, BR], tl.float32)
    for g in range(0, cols // G):
        at = g.to(tl.int64) * outs
        b = tl.load(codes + at * G + code, mask=have_o[:, None], other=0)
        scale = tl.load(scales + at + o, mask=have_o, other=0.0).to(tl.float32)
        v = tl.load(xs + g * G, mask=have_r[None, :], other=0.0)
        total += tl.dot(b.to(tl.float32).to(tl.bfloat16), v) * scale[:, None]
        if OFFSET:
            offset = tl.load(offsets + at + o, mask=have_o, other=0.0).to(tl.float32)
            total += offset[:, None] * tl.max(tl.dot(ones, v), 0)[None, :]
    tl.store(y + r.to(tl.int64)[None, :] * stride + o[:, None], total, mask=have_o[:, None] & have_r[None, :])


@triton.jit
def multiply_numbers(x, numbers, y, rows, outs, cols, stride,
                     SPLIT: tl.constexpr, BO: tl.constexpr, BR: tl.constexpr):
    """y[r, o] = Σ x[r, c] w[o, c] of BO outputs and BR rows. With SPLIT, a weight is the sum of two numbers in
    bf16: an f16 is exactly that."""
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
        if SPLIT:
            low = w.to(tl.float32) - high.to(tl.float32)
            total = tl.dot(low.to(tl.bfloat16), v, total)
    tl.store(y + r.to(tl.int64)[None, :] * stride + o[:, None], total, mask=have_o[:, None] & have_r[None, :])


@triton.jit
def embed_numbers(tokens, numbers, x, outs, cols, BLOCK: tl.constexpr):
    """x[i, :] f32 = row tokens[i] of the weights; program (i, block of columns)."""
    i = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < cols
    at = ((c // 32).to(tl.int64) * outs + tl.load(tokens + i)) * 32 + c % 32
    tl.store(x + i * cols + c, tl.load(numbers + at, mask=inside, other=0.0).to(tl.float32), mask=inside)


@triton.jit
def embed_nibbles(tokens, codes, scales, offsets, x, outs, cols, BLOCK: tl.constexpr):
    """x[i, :] f32 = row tokens[i] of the weights; program (i, block of columns)."""
    i = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < cols
    at = (c // 32).to(tl.int64) * outs + tl.load(tokens + i)
    b = tl.load(codes + at * 16 + c % 16, mask=inside, other=0).to(tl.int32)
    code = (b >> (c % 32 // 16 * 4)) & 15
    scale = tl.load(scales + at, mask=inside, other=0.0).to(tl.float32)
    offset = tl.load(offsets + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(x + i * cols + c, code.to(tl.float32) * scale + offset, mask=inside)


@triton.jit
def embed_octets(tokens, codes, scales, offsets, x, outs, cols, G: tl.constexpr, OFFSET: tl.constexpr, BLOCK: tl.constexpr):
    """x[i, :] f32 = row tokens[i] of the weights; program (i, block of columns)."""
    i = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < cols
    at = (c // G).to(tl.int64) * outs + tl.load(tokens + i)
    code = tl.load(codes + at * G + c % G, mask=inside, other=0).to(tl.float32)
    scale = tl.load(scales + at, mask=inside, other=0.0).to(tl.float32)
    w = code * scale
    if OFFSET:
        w += tl.load(offsets + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(x + i * cols + c, w, mask=inside)
