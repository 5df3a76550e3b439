"""ThinK (arXiv 2407.21018): groups of 32 tokens of a KV head whose keys keep some of their channels, and attention over them.

What a KV head has begins with how many channels keys keep and how many bytes a group has, i32, and room for two numbers more; then
the channels [D], i16, rising; and then its groups. A group is keys [channels, 32] and values [32, D], bf16; or codes of them in 2
or 4 bits, and then scales and minima, f16: of keys, [channels] each, and of values, [D/32, 32] each, of a token's blocks of 32
channels. There the channels are filled up, by such whose numbers are 0, to as many as 8 bytes have codes. Codes of values lie as
those of packed.py; of keys, two channels, or four of 2 bits, in eight words, of tokens 8(g/2) + g%2 each: a word's half has every
other channel, and from its lowest bits on the codes of tokens 2j further. Behind it lies, where a state of LESS will absorb its
keys, ψ of them as they were when they were whole [32, rank], bf16. Codes are of rotated vectors: see packed.py.
"""
import triton
import triton.language as tl

import attention
import packed as kivi

G = tl.constexpr(32)  # tokens of a group


@triton.jit
def groups_of(groups, layer, kv, kv_heads, D: tl.constexpr):
    """Where the groups of a KV head begin, how many channels its keys keep, and the bytes of a group. groups is the address of a
    table [layers, kv_heads] i64 of addresses of first groups."""
    first = tl.multiple_of(tl.load(groups.to(tl.pointer_type(tl.int64)) + layer * kv_heads + kv), 16)
    about = (first - 2 * D - 16).to(tl.pointer_type(tl.int32))
    return first, tl.load(about), tl.multiple_of(tl.load(about + 1), 16)


@triton.jit
def channels_of(first, kept, D: tl.constexpr):
    """The channels [D] that keys keep, of which so many are real; the others are 0."""
    c = tl.arange(0, D)
    at = tl.multiple_of((first - 2 * D).to(tl.pointer_type(tl.int16)), 16)
    return tl.load(at + c, mask=c < kept, other=0).to(tl.int32)


@triton.jit
def numbers(at):
    return tl.multiple_of(at.to(tl.pointer_type(tl.bfloat16)), 16)


@triton.jit
def ask(q, jobs, memory, layer, heads, kv_heads, D: tl.constexpr):
    """Takes the mean squares of the last queries of a block, by channel, over the heads of a group too, to those that are known;
    program (job, KV head). The same sums in the same order as cache.Sequence.Ask.

        q      [rows, heads, D] bf16
        jobs   [jobs, 4] i64: the first row, how many, where in memory the numbers [layers, kv_heads, D] are, and the bits of the
               share that the new ones have
        memory f32
    """
    job = jobs + tl.program_id(0) * 4
    kv = tl.program_id(1)
    group = heads // kv_heads
    d = tl.arange(0, D)
    n = tl.load(job + 1).to(tl.int32) * group
    count = tl.full([D], 0.0, tl.float32) + n.to(tl.float32)
    total = tl.zeros([D], tl.float32)
    for i in range(0, n):
        row = tl.load(job) + i // group
        x = tl.load(q + (row * heads + kv * group + i % group) * D + d).to(tl.float32)
        total += tl.div_rn(x * x, count)
    at = memory + tl.load(job + 2) + (layer * kv_heads + kv) * D + d
    old = tl.load(at)
    share = tl.full([D], 0.0, tl.float32) + tl.load(job + 3).to(tl.int32).to(tl.float32, bitcast=True)
    tl.store(at, old + exactly(total - old, share))


@triton.jit
def squares(memory, jobs, rows, out, D: tl.constexpr, T: tl.constexpr):
    """Adds up the squares of keys by channel; program (job).

        memory [·, D] bf16
        jobs   [jobs, 2] i64: the first of its rows, and how many
        rows   [·] i64: rows of memory
        out    [jobs, D] f64
    """
    job = jobs + tl.program_id(0) * 2
    mine = rows + tl.load(job)
    count = tl.load(job + 1).to(tl.int32)
    d = tl.arange(0, D)
    total = tl.zeros([T, D], tl.float64)
    for from_ in range(0, count, T):
        t = from_ + tl.arange(0, T)
        row = tl.load(mine + t, mask=t < count, other=0)
        x = tl.load(memory + (row * D)[:, None] + d[None, :], mask=(t < count)[:, None], other=0.0).to(tl.float32)
        total += (x * x).to(tl.float64)
    tl.store(out + tl.program_id(0) * D + d, tl.sum(total, 0))


@triton.jit
def bits_between(kept, D: tl.constexpr, STAGES: tl.constexpr):
    """Of every channel, how large the block is, as a power of two, that it is rotated in: so many channels are divided into blocks of
    powers of two, the largest first."""
    c = tl.arange(0, D) ^ kept
    n = tl.zeros([D], tl.int32)
    for i in tl.static_range(1, STAGES + 1):
        n += (c >> i != 0).to(tl.int32)
    return n


@triton.jit
def mix(x, kept, T: tl.constexpr, D: tl.constexpr, STAGES: tl.constexpr):
    """Rotates the first channels of the rows of x [T, D], block by block. The others are 0. Twice is as it was."""
    block = bits_between(kept, D, STAGES)
    share = tl.full([D], 1.0, tl.float32)
    for i in tl.static_range(STAGES):
        a, b = tl.split(tl.permute(tl.reshape(x, [T, D >> (i + 1), 2, 1 << i]), (0, 1, 3, 2)))
        y = tl.reshape(tl.permute(tl.join(a + b, a - b), (0, 1, 3, 2)), [T, D])
        x = tl.where((block > i)[None, :], y, x)
        share = tl.where(block > i, 2.0 ** (-0.5 * (i + 1)), share)
    return exactly(x, share[None, :] + tl.zeros_like(x))


@triton.jit
def exactly(x, y):
    """x times y, rounded, whatever it is added to."""
    return tl.inline_asm_elementwise("mul.rn.f32 $0, $1, $2;", "=r,r,r", [x, y], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def filled(kept, BITS: tl.constexpr):
    """So many channels, filled up."""
    LINE: tl.constexpr = 16 // BITS
    return tl.multiple_of((kept + LINE - 1) // LINE * LINE, LINE)


@triton.jit
def scales_of(group, kept, D: tl.constexpr, BITS: tl.constexpr):
    """Where the scales of a group's keys are; their minima, and those of values, follow."""
    return (group + (filled(kept, BITS) + D) * (4 * BITS)).to(tl.pointer_type(tl.float16))


@triton.jit
def codes_at(group, D: tl.constexpr, BITS: tl.constexpr):
    """Where the bytes of codes of D keys' channels are; those of fewer are as many."""
    return group.to(tl.pointer_type(tl.uint8)) + tl.arange(0, 4 * D * BITS)


@triton.jit
def key_codes(group, kept, D: tl.constexpr, BITS: tl.constexpr):
    """The codes of a group's keys [32, D], i32, those of channels that keys have lost 0."""
    Z: tl.constexpr = 8 // BITS
    there = tl.arange(0, 4 * D * BITS) < filled(kept, BITS) * (4 * BITS)
    x = tl.load(codes_at(group, D, BITS), mask=there, other=0).to(tl.int32)
    x = x[:, None] >> tl.arange(0, Z)[None, :] * BITS & (1 << BITS) - 1
    if BITS == 4:
        x = tl.permute(tl.reshape(x, [D // 2, 4, 2, 2, 2, 2]), (1, 4, 5, 2, 0, 3))
    else:
        x = tl.permute(tl.reshape(x, [D // 4, 4, 2, 2, 2, 4]), (1, 5, 2, 0, 4, 3))
    return tl.reshape(x, [G, D])


@triton.jit
def store_key_codes(group, codes, kept, D: tl.constexpr, BITS: tl.constexpr):
    """Of codes [32, D]."""
    Z: tl.constexpr = 8 // BITS
    if BITS == 4:
        x = tl.permute(tl.reshape(codes, [4, 2, 2, 2, D // 2, 2]), (4, 0, 3, 5, 1, 2))
    else:
        x = tl.permute(tl.reshape(codes, [4, 4, 2, D // 4, 2, 2]), (3, 0, 2, 5, 4, 1))
    x = tl.sum(tl.reshape(x, [4 * D * BITS, Z]) << tl.arange(0, Z)[None, :] * BITS, 1)
    there = tl.arange(0, 4 * D * BITS) < filled(kept, BITS) * (4 * BITS)
    tl.store(codes_at(group, D, BITS), x.to(tl.uint8), mask=there)


@triton.jit
def keys_of(group, kept, D: tl.constexpr, BITS: tl.constexpr):
    """The keys of a group [32, D], channels that they keep first, and 0 behind them; of codes, what these stand for, f32, rotated."""
    c = tl.arange(0, D)
    real = c < kept
    if BITS == 16:
        return tl.trans(tl.load(numbers(group) + c[:, None] * G + tl.arange(0, G)[None, :], mask=real[:, None], other=0.0))
    else:
        scales = scales_of(group, kept, D, BITS)
        scale = tl.load(scales + c, mask=real, other=0.0).to(tl.float32)
        least = tl.load(scales + filled(kept, BITS) + c, mask=real, other=0.0).to(tl.float32)
        return key_codes(group, kept, D, BITS).to(tl.float32) * scale[None, :] + least[None, :]


@triton.jit
def values_of(group, kept, D: tl.constexpr, BITS: tl.constexpr):
    """The values of a group [32, D]; of codes, what these stand for, f32, rotated."""
    t = tl.arange(0, G)
    d = tl.arange(0, D)
    at = group + filled(kept, BITS) * (4 * BITS)
    if BITS == 16:
        return tl.load(numbers(at) + t[:, None] * D + d[None, :])
    else:
        scales = scales_of(group, kept, D, BITS) + 2 * filled(kept, BITS) + (d // G)[None, :] * G + t[:, None]
        return kivi.codes_of(at.to(tl.pointer_type(tl.uint8)), False, D, BITS) * tl.load(scales).to(tl.float32) + tl.load(scales + D).to(tl.float32)


@triton.jit
def pack(memory, jobs, rows, layer, kv_heads, size,
         D: tl.constexpr, BITS: tl.constexpr, STAGES: tl.constexpr, SHARE: tl.constexpr):
    """Puts 32 tokens of a KV head into a group; program (job, keys or values). See packed.pack; size is not used."""
    job = jobs + tl.program_id(0) * 4
    values = tl.program_id(1)
    first, kept, size = groups_of(tl.load(job), layer, tl.load(job + 1), kv_heads, D)
    group = first + tl.load(job + 2) * size
    t = tl.arange(0, G)
    d = tl.arange(0, D)
    real = d < kept
    at = rows + (tl.load(job + 3) + t) * 3
    row = (tl.load(at + values) + layer * tl.load(at + 2)) * D
    to = group + filled(kept, BITS) * (4 * BITS)
    if BITS == 16:
        if values == 0:
            key = tl.load(memory + row[None, :] + channels_of(first, kept, D)[:, None], mask=real[:, None], other=0.0)
            tl.store(numbers(group) + d[:, None] * G + t[None, :], key, mask=real[:, None])
        else:
            value = tl.load(memory + row[:, None] + d[None, :])
            tl.store(numbers(to) + t[:, None] * D + d[None, :], value)
    else:
        LEVELS: tl.constexpr = (1 << BITS) - 1
        scales = scales_of(group, kept, D, BITS)
        if values == 0:
            key = tl.load(memory + row[:, None] + channels_of(first, kept, D)[None, :], mask=real[None, :], other=0.0)
            key = mix(key.to(tl.float32), kept, G, D, STAGES)
            scale, least = kivi.outwards(tl.min(key, 0), tl.max(key, 0), LEVELS)
            key = kivi.quantise(key, scale.to(tl.float32)[None, :], least.to(tl.float32)[None, :], LEVELS)
            store_key_codes(group, key, kept, D, BITS)
            tl.store(scales + d, scale, mask=d < filled(kept, BITS))
            tl.store(scales + filled(kept, BITS) + d, least, mask=d < filled(kept, BITS))
        else:
            value = kivi.mix(tl.load(memory + row[:, None] + d[None, :]).to(tl.float32), G, D, STAGES, SHARE)
            value = tl.reshape(value, [G, D // G, G])
            steps, lows = kivi.outwards(tl.min(value, 2), tl.max(value, 2), LEVELS)
            value = kivi.quantise(value, steps.to(tl.float32)[:, :, None], lows.to(tl.float32)[:, :, None], LEVELS)
            kivi.store_codes(to.to(tl.pointer_type(tl.uint8)), tl.reshape(value, [G, D]), False, D, BITS)
            of = scales + 2 * filled(kept, BITS) + tl.arange(0, D // G)[None, :] * G + t[:, None]
            tl.store(of, steps)
            tl.store(of + D, lows)


@triton.jit
def unpack(memory, jobs, layer, kv_heads, size,
           D: tl.constexpr, BITS: tl.constexpr, STAGES: tl.constexpr, SHARE: tl.constexpr):
    """Writes the keys, channels that they have lost 0, and the values of a group; program (job, keys or values). See packed.unpack."""
    job = jobs + tl.program_id(0) * 4
    values = tl.program_id(1)
    first, kept, size = groups_of(tl.load(job), layer, tl.load(job + 1), kv_heads, D)
    group = first + tl.load(job + 2) * size
    d = tl.arange(0, D)
    to = memory + ((tl.load(job + 3) + values * G + tl.arange(0, G)) * D)[:, None]
    if values == 0:
        key = keys_of(group, kept, D, BITS)
        if BITS < 16:
            key = mix(key, kept, G, D, STAGES).to(tl.bfloat16)
        tl.store(to + d[None, :], tl.zeros([G, D], tl.bfloat16))
        tl.debug_barrier()
        tl.store(to + channels_of(first, kept, D)[None, :], key, mask=(d < kept)[None, :])
    else:
        value = values_of(group, kept, D, BITS)
        if BITS < 16:
            value = kivi.mix(value, G, D, STAGES, SHARE).to(tl.bfloat16)
        tl.store(to + d[None, :], value)


@triton.jit
def shift(moves, layer, kv_heads, size, D: tl.constexpr, BLOCK: tl.constexpr):
    """Copies a group of a KV head; program (move). See packed.shift."""
    m = moves + tl.program_id(0) * 4
    first, _, size = groups_of(tl.load(m), layer, tl.load(m + 1), kv_heads, D)
    source = numbers(first + tl.load(m + 2) * size)
    target = numbers(first + tl.load(m + 3) * size)
    size = tl.multiple_of(size // 2, 8)
    for from_ in range(0, size, BLOCK):
        i = from_ + tl.arange(0, BLOCK)
        tl.store(target + i, tl.load(source + i, mask=i < size), mask=i < size)


@triton.jit
def queries(q, row, head, have, heads, channel, kept, D: tl.constexpr):
    """The channels of queries that keys keep, [·, D], the others 0."""
    at = (row.to(tl.int64) * heads + head) * D
    return tl.load(q + at[:, None] + channel[None, :], mask=have[:, None] & (tl.arange(0, D) < kept)[None, :], other=0.0)


@triton.jit
def products(query, group, kept, D: tl.constexpr):
    """Queries [M, D] times the keys of a group: [M, 32]."""
    return tl.dot(query, tl.trans(keys_of(group, kept, D, 16)))


@triton.jit
def attend(q, tiles, groups, packed, out, lse, layer, rows, heads, kv_heads, span, size, scale,
           D: tl.constexpr, M: tl.constexpr):
    """Softmax attention of one tile of queries of one KV head over one span of its groups in 16 bits; program (tile, KV head, split).
    See attend_packed.attend_packed for groups, packed and span, and attention.attend for the rest; size is not used."""
    tile = tl.program_id(0)
    kv = tl.program_id(1)
    split = tl.program_id(2)
    share = heads // kv_heads
    i = tl.arange(0, M)
    d = tl.arange(0, D)
    first = tl.load(tiles + 2 * tile)
    row = first + i // share
    have = i // share < tl.load(tiles + 2 * tile + 1)
    head = kv * share + i % share
    from_ = split * span
    to = tl.minimum(from_ + span, tl.load(packed + first * kv_heads + kv))
    peak = tl.full([M], float("-inf"), tl.float32)
    sum_ = tl.zeros([M], tl.float32)
    mixed = tl.zeros([M, D], tl.float32)
    if from_ < to:
        at, kept, size = groups_of(tl.load(groups + tile), layer, kv, kv_heads, D)
        query = queries(q, row, head, have, heads, channels_of(at, kept, D), kept, D)
        for number in range(from_, to):
            group = at + number.to(tl.int64) * size
            x = products(query, group, kept, D) * (scale * 1.4426950408889634)
            higher = tl.maximum(peak, tl.max(x, 1))
            shrink = tl.exp2(peak - higher)
            p = tl.exp2(x - higher[:, None])
            sum_ = sum_ * shrink + tl.sum(p, 1)
            mixed = tl.dot(p.to(tl.bfloat16), values_of(group, kept, D, 16), mixed * shrink[:, None])
            peak = higher
        mixed = mixed / sum_[:, None]
    total = tl.where(sum_ > 0, (peak + tl.log2(sum_)) * 0.6931471805599453, float("-inf"))
    r = (split.to(tl.int64) * rows + row) * heads + head
    tl.store(lse + r, total, mask=have)
    tl.store(out + r[:, None] * D + d[None, :], mixed, mask=have[:, None])


@triton.jit
def observe(q, lse, blocks, groups, packed, positions, out, layer, rows, heads, kv_heads, splits, size, scale, last,
            D: tl.constexpr, M: tl.constexpr):
    """What the tokens of a group in 16 bits get of the attention of a block's rows; program (group, KV head, block). See
    observe_packed.observe_packed; size is not used."""
    block = blocks + tl.program_id(2) * 6
    kv = tl.program_id(1)
    number = tl.program_id(0)
    share = heads // kv_heads
    first = tl.load(block)
    count = tl.load(block + 1).to(tl.int32) * share
    if number < tl.load(packed + first * kv_heads + kv):
        at, kept, size = groups_of(tl.load(groups + tl.program_id(2)), layer, kv, kv_heads, D)
        channel = channels_of(at, kept, D)
        group = at + number.to(tl.int64) * size
        total = tl.zeros([G], tl.float32)
        for from_ in range(0, count, M):
            i = from_ + tl.arange(0, M)
            inside = i < count
            row = first + i // share
            head = kv * share + i % share
            whole = attention.joined(lse, row, head, inside, rows, heads, splits, M)
            query = queries(q, row, head, inside, heads, channel, kept, D)
            p = tl.exp2(products(query, group, kept, D) * (scale * 1.4426950408889634) - whole[:, None])
            p = tl.where(inside[:, None], p, 0.0)
            if last == 0:
                total += tl.sum(p, 0)
            else:
                step = (tl.load(positions + row, mask=inside, other=0) + 1).to(tl.float32)[:, None]
                total = tl.maximum(total, tl.max(tl.where(p * step >= 1.0, step, 0.0), 0))
        known = tl.load(block + 5)
        to = out + tl.load(block + 2) + layer * tl.load(block + 3) + kv * tl.load(block + 4) + number * G + tl.arange(0, G)
        old = tl.load(to, mask=(known < 0) | (number < known), other=0.0)
        if last == 0:
            total += old
        else:
            total = tl.maximum(total, old)
        tl.store(to, total)
