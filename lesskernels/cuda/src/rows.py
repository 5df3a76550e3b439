"""Kernels of one row of the batch each: what lies between the products of a layer.

    x       [rows, width]  f32   the residual stream
    normed  [rows, width]  bf16  what the products read
"""
import triton
import triton.language as tl


@triton.jit
def add_norm(x, delta, weight, normed, pick, width, epsilon,
             ADD: tl.constexpr, PICK: tl.constexpr, BLOCK: tl.constexpr):
    """RMSNorm (arXiv 1910.07467) of one row; ADD first adds delta [rows, width] f32 to x.
    PICK normalises row pick[i] of x in place of row i, for the rows whose logits are wanted."""
    to = tl.program_id(0).to(tl.int64) * width
    row = to
    if PICK:
        row = tl.load(pick + tl.program_id(0)).to(tl.int64) * width
    c = tl.arange(0, BLOCK)
    squares = tl.zeros([BLOCK], tl.float32)
    for at in range(0, width, BLOCK):
        inside = at + c < width
        v = tl.load(x + row + at + c, mask=inside, other=0.0)
        if ADD:
            v += tl.load(delta + row + at + c, mask=inside, other=0.0)
        squares += v * v
    scale = 1.0 / tl.sqrt(tl.sum(squares, 0) / width + epsilon)
    for at in range(0, width, BLOCK):
        inside = at + c < width
        v = tl.load(x + row + at + c, mask=inside, other=0.0)
        if ADD:
            v += tl.load(delta + row + at + c, mask=inside, other=0.0)
            tl.store(x + row + at + c, v, mask=inside)
        w = tl.load(weight + at + c, mask=inside, other=0.0)
        tl.store(normed + to + at + c, (v * scale * w).to(tl.bfloat16), mask=inside)


@triton.jit
def add(x, delta, n, BLOCK: tl.constexpr):
    """x += delta, of n numbers."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    tl.store(x + at, tl.load(x + at, mask=inside) + tl.load(delta + at, mask=inside), mask=inside)


@triton.jit
def swiglu(gate, up, out, n, BLOCK: tl.constexpr):
    """out = gate · sigmoid(gate) · up, of n numbers (arXiv 2002.05202); out bf16."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    g = tl.load(gate + at, mask=inside, other=0.0)
    u = tl.load(up + at, mask=inside, other=0.0)
    tl.store(out + at, (g / (1.0 + tl.exp(-g)) * u).to(tl.bfloat16), mask=inside)


@triton.jit
def rope(qkv, cos, sin, q, k, v, slots, heads, kv_heads, D: tl.constexpr):
    """Turns a query or key by its position (arXiv 2104.09864; neighbours are a pair) and rounds it to
    bf16; program (row, head). Queries go to q [rows, heads, D], keys and values to row
    slots[row, kv head] of the slabs k, v [·, D].

        qkv       [rows, heads + 2·kv_heads, D] f32
        cos, sin  [rows, D/2] f32
        slots     [rows, kv_heads] i64
    """
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    i = tl.arange(0, D // 2)
    d = tl.arange(0, D)
    x = qkv + (row * (heads + 2 * kv_heads) + head) * D
    if head < heads + kv_heads:
        a = tl.load(x + 2 * i)
        b = tl.load(x + 2 * i + 1)
        c = tl.load(cos + row * (D // 2) + i)
        s = tl.load(sin + row * (D // 2) + i)
        turned = tl.interleave(a * c - b * s, a * s + b * c).to(tl.bfloat16)
        if head < heads:
            tl.store(q + (row * heads + head) * D + d, turned)
        else:
            tl.store(k + tl.load(slots + row * kv_heads + head - heads) * D + d, turned)
    else:
        slot = tl.load(slots + row * kv_heads + head - heads - kv_heads)
        tl.store(v + slot * D + d, tl.load(x + d).to(tl.bfloat16))


@triton.jit
def argmax(logits, best, vocab, BLOCK: tl.constexpr):
    """best[row] i32 = the most likely token of logits [rows, vocab] f32, the first of equals."""
    row = tl.program_id(0).to(tl.int64) * vocab
    c = tl.arange(0, BLOCK)
    top = tl.full([BLOCK], float("-inf"), tl.float32)
    where = tl.zeros([BLOCK], tl.int32)
    for at in range(0, vocab, BLOCK):
        v = tl.load(logits + row + at + c, mask=at + c < vocab, other=float("-inf"))
        where = tl.where(v > top, at + c, where)
        top = tl.maximum(top, v)
    first = tl.min(tl.where(top == tl.max(top, 0), where, 0x7fffffff), 0)
    tl.store(best + tl.program_id(0), first)
