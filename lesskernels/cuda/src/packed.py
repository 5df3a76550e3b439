"""KIVI (arXiv 2402.02750): groups of 32 tokens of a KV head in codes of 2 or 4 bits, how they are made, and what their tokens get.

A group is one piece of memory: key codes, and value codes, in the order in which threads hold them when the matrix unit multiplies
(see attend_packed.py); scales [D] and minima [D] of channels of keys; scales [D/32, 32] and minima [D/32, 32] of a token's blocks
of 32 channels of its value, all f16. Codes are of vectors rotated by the Walsh-Hadamard transform (QuaRot, arXiv 2404.00456), of
which queries have the same products, and attention over rotated values is its rotated output.

    codes  [D·BITS/128, 8, 4, 4] i32: the words of lane 4g + t, four at a time. A word's half has codes from its lowest bits on, and
           both halves those of D/2 pairs of a lane, which are channels of keys 2i and 2i + 1, or tokens of values:
           keys    for each j of 4 pairs of channels of tD/4 … (t+1)D/4 of token 8(g/2) + 2j + g%2
           values  for each channel g, 8 + g, 16 + g … pairs of tokens of 8t … 8t + 7
"""
import triton
import triton.language as tl

import attention

G = tl.constexpr(32)  # tokens of a group, and channels of a value that share a scale


@triton.jit
def mix(x, T: tl.constexpr, D: tl.constexpr, STAGES: tl.constexpr, SHARE: tl.constexpr):
    """Rotates the rows of x [T, D]: 2^STAGES is D, and SHARE one by its root. Twice is as it was."""
    for i in tl.static_range(STAGES):
        a, b = tl.split(tl.permute(tl.reshape(x, [T, D >> (i + 1), 2, 1 << i]), (0, 1, 3, 2)))
        x = tl.reshape(tl.permute(tl.join(a + b, a - b), (0, 1, 3, 2)), [T, D])
    return x * SHARE


@triton.jit
def codes_of(at, KEYS: tl.constexpr, D: tl.constexpr, BITS: tl.constexpr):
    """The codes [32, D] of a group's keys, or of its values, as f32."""
    C: tl.constexpr = D * BITS // 128
    Z: tl.constexpr = 8 // BITS
    i = tl.arange(0, G * D // Z)
    z = tl.arange(0, Z)
    x = tl.load(at + i).to(tl.int32)[:, None] >> z[None, :] * BITS & (1 << BITS) - 1
    x = tl.permute(tl.reshape(x, [C, 32, 4, 2, 2, Z]), (0, 2, 4, 5, 1, 3))
    if KEYS:
        x = tl.permute(tl.reshape(x, [4, D // 8, 4, 2, 4, 2]), (2, 0, 3, 4, 1, 5))
    else:
        x = tl.permute(tl.reshape(x, [D // 8, 4, 8, 4, 2]), (3, 1, 4, 0, 2))
    return tl.reshape(x, [G, D]).to(tl.float32)


@triton.jit
def keys_of(group, D: tl.constexpr, BITS: tl.constexpr):
    """The keys [32, D] that a group stands for, rotated."""
    d = tl.arange(0, D)
    scales = (group + 2 * G * (D * BITS // 8)).to(tl.pointer_type(tl.float16))
    return codes_of(group, True, D, BITS) * tl.load(scales + d).to(tl.float32)[None, :] + tl.load(scales + D + d).to(tl.float32)[None, :]


@triton.jit
def values_of(group, D: tl.constexpr, BITS: tl.constexpr):
    """The values [32, D] that a group stands for, rotated."""
    t = tl.arange(0, G)
    d = tl.arange(0, D)
    scales = (group + 2 * G * (D * BITS // 8)).to(tl.pointer_type(tl.float16)) + 2 * D
    of = (d // G)[None, :] * G + t[:, None]
    return codes_of(group + G * (D * BITS // 8), False, D, BITS) * tl.load(scales + of).to(tl.float32) + tl.load(scales + D + of).to(tl.float32)


@triton.jit
def outwards(low, high, LEVELS: tl.constexpr):
    """Scale and minimum in f16, both rounded so that the steps between cover low to high."""
    least = low.to(tl.float16)
    bits = least.to(tl.int16, bitcast=True)
    below = tl.where((bits == 0) | (bits == -32768), -32767, tl.where(bits > 0, bits - 1, bits + 1)).to(tl.int16)
    least = tl.where(least.to(tl.float32) > low, below, bits).to(tl.float16, bitcast=True)
    width = high - least.to(tl.float32)
    scale = tl.div_rn(width, tl.full(width.shape, LEVELS, tl.float32)).to(tl.float16)
    more = (scale.to(tl.int16, bitcast=True) + 1).to(tl.int16).to(tl.float16, bitcast=True)
    return tl.where(scale.to(tl.float32) * LEVELS < width, more, scale), least


@triton.jit
def quantise(x, step, from_, LEVELS: tl.constexpr):
    """Codes of the steps that are nearest to x."""
    y = tl.div_rn(x - from_, tl.where(step == 0, 1.0, step) + tl.zeros_like(x))
    y = (y + 12582912.0) - 12582912.0  # to the nearest number, of two the even one
    y = tl.where(y > 0, tl.minimum(y, LEVELS), 0.0)
    return tl.where(step == 0, 0.0, y).to(tl.int32)


@triton.jit
def store_codes(at, codes, KEYS: tl.constexpr, D: tl.constexpr, BITS: tl.constexpr):
    C: tl.constexpr = D * BITS // 128
    Z: tl.constexpr = 8 // BITS
    if KEYS:
        x = tl.permute(tl.reshape(codes, [4, 4, 2, 4, D // 8, 2]), (1, 4, 0, 2, 3, 5))
    else:
        x = tl.permute(tl.reshape(codes, [4, 4, 2, D // 8, 8]), (3, 1, 4, 0, 2))
    x = tl.permute(tl.reshape(x, [C, 4, 2, Z, 32, 2]), (0, 4, 1, 5, 2, 3))
    x = tl.sum(tl.reshape(x, [G * D // Z, Z]) << tl.arange(0, Z)[None, :] * BITS, 1)
    tl.store(at + tl.arange(0, G * D // Z), x.to(tl.uint8))


@triton.jit
def address_of(groups, number, layer, kv, kv_heads, size):
    """Where a group of a KV head is. groups is the address of a table [layers, kv_heads] i64 of addresses of first groups."""
    table = groups.to(tl.pointer_type(tl.int64))
    return (tl.load(table + layer * kv_heads + kv) + number * size).to(tl.pointer_type(tl.uint8))


@triton.jit
def pack(memory, jobs, rows, layer, kv_heads, size,
         D: tl.constexpr, BITS: tl.constexpr, STAGES: tl.constexpr, SHARE: tl.constexpr):
    """Packs 32 tokens of a KV head; program (job, keys or values).

        memory [·, D] bf16
        jobs   [jobs, 4] i64: the address of the table of groups, the KV head, the group's number, and the first of its rows
        rows   [·, 3] i64: of tokens, the rows of memory where key and value of layer 0 lie, and how many rows further those of
               the next layer do
    """
    job = jobs + tl.program_id(0) * 4
    values = tl.program_id(1)
    group = address_of(tl.load(job), tl.load(job + 2), layer, tl.load(job + 1), kv_heads, size)
    LEVELS: tl.constexpr = (1 << BITS) - 1
    CODES: tl.constexpr = G * (D * BITS // 8)
    t = tl.arange(0, G)
    d = tl.arange(0, D)
    at = rows + (tl.load(job + 3) + t) * 3
    row = tl.load(at + values) + layer * tl.load(at + 2)
    x = mix(tl.load(memory + (row * D)[:, None] + d[None, :]).to(tl.float32), G, D, STAGES, SHARE)
    scales = (group + 2 * CODES).to(tl.pointer_type(tl.float16))
    if values == 0:
        scale, least = outwards(tl.min(x, 0), tl.max(x, 0), LEVELS)
        store_codes(group, quantise(x, scale.to(tl.float32)[None, :], least.to(tl.float32)[None, :], LEVELS), True, D, BITS)
        tl.store(scales + d, scale)
        tl.store(scales + D + d, least)
    else:
        b = tl.arange(0, D // G)
        y = tl.reshape(x, [G, D // G, G])
        steps, lows = outwards(tl.min(y, 2), tl.max(y, 2), LEVELS)
        codes = quantise(y, steps.to(tl.float32)[:, :, None], lows.to(tl.float32)[:, :, None], LEVELS)
        store_codes(group + CODES, tl.reshape(codes, [G, D]), False, D, BITS)
        of = b[None, :] * G + t[:, None]
        tl.store(scales + 2 * D + of, steps)
        tl.store(scales + 3 * D + of, lows)


@triton.jit
def unpack(memory, jobs, layer, kv_heads, size,
           D: tl.constexpr, BITS: tl.constexpr, STAGES: tl.constexpr, SHARE: tl.constexpr):
    """Writes the keys and values that a group stands for; program (job, keys or values).

        memory [·, D] bf16
        jobs   [jobs, 4] i64: the address of the table of groups, the KV head, the group's number, and the first of 32 rows of
               memory, which keys, and then of 32, which values are written to
    """
    job = jobs + tl.program_id(0) * 4
    values = tl.program_id(1)
    group = address_of(tl.load(job), tl.load(job + 2), layer, tl.load(job + 1), kv_heads, size)
    if values == 0:
        x = keys_of(group, D, BITS)
    else:
        x = values_of(group, D, BITS)
    x = mix(x, G, D, STAGES, SHARE)
    row = tl.load(job + 3) + values * G + tl.arange(0, G)
    tl.store(memory + (row * D)[:, None] + tl.arange(0, D)[None, :], x.to(tl.bfloat16))


@triton.jit
def shift(moves, layer, kv_heads, size, BLOCK: tl.constexpr):
    """Copies a group of a KV head; program (move). moves [·, 4] i64: the address of the table of groups, the KV head, the number of
    the group, and the one that it gets. size is a multiple of 16."""
    m = moves + tl.program_id(0) * 4
    source = address_of(tl.load(m), tl.load(m + 2), layer, tl.load(m + 1), kv_heads, size)
    target = address_of(tl.load(m), tl.load(m + 3), layer, tl.load(m + 1), kv_heads, size)
    for from_ in range(0, size, BLOCK):
        i = from_ + tl.arange(0, BLOCK)
        tl.store(target + i, tl.load(source + i, mask=i < size), mask=i < size)


@triton.jit
def products(query, group, D: tl.constexpr, BITS: tl.constexpr):
    """Rotated queries [M, D] f32 times the keys of a group: [M, 32]. Scales go to the queries, of which three parts of bf16 make
    all of an f32, and codes, counted from their middle, are exact."""
    MIDDLE: tl.constexpr = 1 << (BITS - 1)
    d = tl.arange(0, D)
    scales = (group + 2 * G * (D * BITS // 8)).to(tl.pointer_type(tl.float16))
    scale = tl.load(scales + d).to(tl.float32)
    middle = tl.load(scales + D + d).to(tl.float32) + scale * MIDDLE
    codes = tl.trans((codes_of(group, True, D, BITS) - MIDDLE).to(tl.bfloat16))
    rest = query * scale[None, :]
    first = rest.to(tl.bfloat16)
    rest -= first.to(tl.float32)
    second = rest.to(tl.bfloat16)
    third = (rest - second.to(tl.float32)).to(tl.bfloat16)
    x = tl.dot(second, codes, tl.dot(third, codes))
    return tl.dot(first, codes, x) + tl.sum(query * middle[None, :], 1)[:, None]


@triton.jit
def queries(q, row, head, have, heads, D: tl.constexpr, M: tl.constexpr, STAGES: tl.constexpr, SHARE: tl.constexpr):
    """Queries [M, D], rotated."""
    at = (row.to(tl.int64) * heads + head) * D
    x = tl.load(q + at[:, None] + tl.arange(0, D)[None, :], mask=have[:, None], other=0.0).to(tl.float32)
    return mix(x, M, D, STAGES, SHARE)


@triton.jit
def observe_packed(q, lse, blocks, groups, packed, positions, out, layer, rows, heads, kv_heads, splits, size, scale, last,
                   D: tl.constexpr, M: tl.constexpr, BITS: tl.constexpr, STAGES: tl.constexpr, SHARE: tl.constexpr):
    """What the tokens of a group get of the attention of a block's rows; program (group, KV head, block). See attention.observe:
    with last 0 that is SUM, otherwise LAST, and known is of groups; below 0, all that the first row sees."""
    block = blocks + tl.program_id(2) * 6
    kv = tl.program_id(1)
    number = tl.program_id(0)
    group = heads // kv_heads
    first = tl.load(block)
    count = tl.load(block + 1).to(tl.int32)
    have = tl.load(packed + first * kv_heads + kv)
    if number < have:
        at = address_of(tl.load(groups + tl.program_id(2)), number.to(tl.int64), layer, kv, kv_heads, size)
        total = tl.zeros([G], tl.float32)
        for from_ in range(0, count * group, M):
            i = from_ + tl.arange(0, M)
            inside = i < count * group
            row = first + i // group
            head = kv * group + i % group
            query = queries(q, row, head, inside, heads, D, M, STAGES, SHARE)
            whole = attention.joined(lse, row, head, inside, rows, heads, splits, M)
            p = tl.exp2(products(query, at, D, BITS) * (scale * 1.4426950408889634) - whole[:, None])
            p = tl.where(inside[:, None], p, 0.0)
            if last == 0:
                total += tl.sum(p, 0)
            else:
                step = (tl.load(positions + row, mask=inside, other=0) + 1).to(tl.float32)[:, None]
                total = tl.maximum(total, tl.max(tl.where(p * step >= 1.0, step, 0.0), 0))
        known = tl.load(block + 5)
        numbers = out + tl.load(block + 2) + layer * tl.load(block + 3) + kv * tl.load(block + 4) + number * G + tl.arange(0, G)
        old = tl.load(numbers, mask=(known < 0) | (number < known), other=0.0)
        if last == 0:
            total += old
        else:
            total = tl.maximum(total, old)
        tl.store(numbers, total)
