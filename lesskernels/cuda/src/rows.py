"""Kernels of one row of the batch each: what lies between the products of a layer.

    x       [rows, width]  f32   the residual stream
    normed  [rows, width]  bf16  what the products read
"""
import triton
import triton.language as tl

from attention import start_of


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
def rope(qkv, cos, sin, q, k, v, rows, heads, kv_heads, D: tl.constexpr):
    """Turns a query or key by its position (arXiv 2104.09864; neighbours are a pair) and rounds it to
    bf16; program (row, head).

        qkv       [rows, heads + 2·kv_heads, D] f32
        cos, sin  [rows, D/2] f32
        q         [rows, heads, D] bf16
        k, v      [kv_heads, rows, D] bf16
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
            tl.store(k + ((head - heads).to(tl.int64) * rows + row) * D + d, turned)
    else:
        tl.store(v + ((head - heads - kv_heads).to(tl.int64) * rows + row) * D + d, tl.load(x + d).to(tl.bfloat16))


@triton.jit
def move(memory, moves, layer, D: tl.constexpr):
    """Copies a key and a value of one KV head from one place to another; program (move, KV head).

        memory  [·, D] bf16
        moves   [·, 8] i64: of a source, and of a target, the rows of memory where the key and the value of layer 0,
                head 0 lie, and how many rows further those of the next layer and of the next head do
    """
    m = moves + tl.program_id(0) * 8
    head = tl.program_id(1)
    d = tl.arange(0, D)
    source = layer * tl.load(m + 2) + head * tl.load(m + 3)
    target = layer * tl.load(m + 6) + head * tl.load(m + 7)
    key = tl.load(memory + (tl.load(m) + source) * D + d)
    value = tl.load(memory + (tl.load(m + 1) + source) * D + d)
    tl.store(memory + (tl.load(m + 4) + target) * D + d, key)
    tl.store(memory + (tl.load(m + 5) + target) * D + d, value)


@triton.jit
def store(memory, keys, values, stores, live, layer, rows, kv_heads, D: tl.constexpr):
    """Puts the key and the value of a row of the batch into the last slot that the row sees; program (store, KV head).

        memory       [·, D] bf16
        keys, values [kv_heads, rows, D] bf16
        stores       [·, 5] i64: the row, and the place of its sequence (attention.start_of)
        live         [rows, kv_heads] i32: so many first slots the row sees
    """
    m = stores + tl.program_id(0) * 5
    kv = tl.program_id(1)
    d = tl.arange(0, D)
    row = tl.load(m)
    slot = start_of(m + 1, layer, kv, kv_heads) + tl.load(live + row * kv_heads + kv) - 1
    source = (kv.to(tl.int64) * rows + row) * D + d
    tl.store(memory + (tl.load(m + 1) + slot) * D + d, tl.load(keys + source))
    tl.store(memory + (tl.load(m + 2) + slot) * D + d, tl.load(values + source))


@triton.jit
def mean(memory, means, members, D: tl.constexpr):
    """Replaces a key or a value by the mean over several of them, itself among these; program (mean).

        memory  [·, D] bf16
        means   [·, 3] i64: the row that is replaced, the first of its members, and how many
        members [·] i64: rows
    """
    m = means + tl.program_id(0) * 3
    d = tl.arange(0, D)
    first = members + tl.load(m + 1)
    count = tl.load(m + 2).to(tl.int32)
    total = tl.zeros([D], tl.float32)
    for i in range(0, count):
        total += tl.load(memory + tl.load(first + i) * D + d).to(tl.float32)
    tl.store(memory + tl.load(m) * D + d, (total / count).to(tl.bfloat16))


@triton.jit
def pick(from_, to, list, width, BACK: tl.constexpr, BLOCK: tl.constexpr):
    """Copies row list[i] to row i or, BACK, row i to row list[i], of width words of 4 bytes; program (i)."""
    i = tl.program_id(0)
    source = tl.load(list + i).to(tl.int64) * width
    target = i.to(tl.int64) * width
    if BACK:
        source, target = target, source
    c = tl.arange(0, BLOCK)
    for at in range(0, width, BLOCK):
        inside = at + c < width
        tl.store(to + target + at + c, tl.load(from_ + source + at + c, mask=inside), mask=inside)


@triton.jit
def deviate(memory, keys, values, place, positions, out, layer, rows, kv_heads, D: tl.constexpr):
    """How far the key and the value of a row of the batch are from those that lie at its position (CacheBlend, arXiv 2405.16444),
    over all KV heads; program (row).

        memory       [·, D] bf16
        keys, values [kv_heads, rows, D] bf16
        place        [4] i64: see attention.start_of; tokens lie there in the order of their positions
        positions    [rows] i32
        out          [rows, 4] f32: the squares of the distances of keys and of values, and of the row's lengths
    """
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, D)
    position = tl.load(positions + row)
    key_apart, value_apart, key_size, value_size = 0.0, 0.0, 0.0, 0.0
    for kv in range(0, kv_heads):
        further = start_of(place, layer, kv, kv_heads) + position
        own = (kv.to(tl.int64) * rows + row) * D + d
        key = tl.load(keys + own).to(tl.float32)
        value = tl.load(values + own).to(tl.float32)
        apart = key - tl.load(memory + (tl.load(place) + further) * D + d).to(tl.float32)
        key_apart += tl.sum(apart * apart, 0)
        key_size += tl.sum(key * key, 0)
        apart = value - tl.load(memory + (tl.load(place + 1) + further) * D + d).to(tl.float32)
        value_apart += tl.sum(apart * apart, 0)
        value_size += tl.sum(value * value, 0)
    tl.store(out + row * 4, key_apart)
    tl.store(out + row * 4 + 1, value_apart)
    tl.store(out + row * 4 + 2, key_size)
    tl.store(out + row * 4 + 3, value_size)
