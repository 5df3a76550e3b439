"""KIVI (arXiv 2402.02750): groups of 32 tokens of a KV head in codes of 2 or 4 bits, and how they are made.

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
