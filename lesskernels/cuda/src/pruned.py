"""ThinK (arXiv 2407.21018): groups of 32 tokens of a KV head whose keys keep some of their channels, and attention over them.

What a KV head has begins with how many channels keys keep and how many bytes a group has, i32, and room for two numbers more; then
the channels [D], i16, rising; and then its groups. A group is keys [channels, 32] and values [32, D], bf16, and where a state of
LESS will absorb them, ψ of its keys as they were when they were whole [32, rank], bf16.
"""
import triton
import triton.language as tl

import attention

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
    more = tl.inline_asm_elementwise("mul.rn.f32 $0, $1, $2;", "=r,r,r", [total - old, share], dtype=tl.float32, is_pure=True, pack=1)
    tl.store(at, old + more)  # not fused


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
def pack(memory, jobs, rows, layer, kv_heads, size, D: tl.constexpr):
    """Puts 32 tokens of a KV head into a group; program (job, keys or values). See packed.pack; size is not used."""
    job = jobs + tl.program_id(0) * 4
    values = tl.program_id(1)
    first, kept, size = groups_of(tl.load(job), layer, tl.load(job + 1), kv_heads, D)
    group = first + tl.load(job + 2) * size
    t = tl.arange(0, G)
    d = tl.arange(0, D)
    at = rows + (tl.load(job + 3) + t) * 3
    row = (tl.load(at + values) + layer * tl.load(at + 2)) * D
    if values == 0:
        key = tl.load(memory + row[None, :] + channels_of(first, kept, D)[:, None], mask=(d < kept)[:, None], other=0.0)
        tl.store(numbers(group) + d[:, None] * G + t[None, :], key, mask=(d < kept)[:, None])
    else:
        value = tl.load(memory + row[:, None] + d[None, :])
        tl.store(numbers(group) + kept * G + t[:, None] * D + d[None, :], value)


@triton.jit
def unpack(memory, jobs, layer, kv_heads, size, D: tl.constexpr):
    """Writes the keys, dropped channels 0, and the values of a group; program (job, keys or values). See packed.unpack."""
    job = jobs + tl.program_id(0) * 4
    values = tl.program_id(1)
    first, kept, size = groups_of(tl.load(job), layer, tl.load(job + 1), kv_heads, D)
    group = first + tl.load(job + 2) * size
    t = tl.arange(0, G)
    d = tl.arange(0, D)
    to = memory + ((tl.load(job + 3) + values * G + t) * D)[:, None]
    if values == 0:
        key = tl.load(numbers(group) + d[None, :] * G + t[:, None], mask=(d < kept)[None, :], other=0.0)
        tl.store(to + d[None, :], tl.zeros([G, D], tl.bfloat16))
        tl.debug_barrier()
        tl.store(to + channels_of(first, kept, D)[None, :], key, mask=(d < kept)[None, :])
    else:
        tl.store(to + d[None, :], tl.load(numbers(group) + kept * G + t[:, None] * D + d[None, :]))


@triton.jit
def shift(moves, layer, kv_heads, size, D: tl.constexpr, BLOCK: tl.constexpr):
    """Copies a group of a KV head; program (move). See packed.shift."""
    m = moves + tl.program_id(0) * 4
    first, _, size = groups_of(tl.load(m), layer, tl.load(m + 1), kv_heads, D)
    source = numbers(first + tl.load(m + 2) * size)
    target = numbers(first + tl.load(m + 3) * size)
    size = tl.multiple_of(size // 2, 16)
    for from_ in range(0, size, BLOCK):
        i = from_ + tl.arange(0, BLOCK)
        tl.store(target + i, tl.load(source + i, mask=i < size), mask=i < size)


@triton.jit
def queries(q, row, head, have, heads, channel, kept, D: tl.constexpr):
    """The channels of queries that keys keep, [M, D], the others 0."""
    at = (row.to(tl.int64) * heads + head) * D
    return tl.load(q + at[:, None] + channel[None, :], mask=have[:, None] & (tl.arange(0, D) < kept)[None, :], other=0.0)


@triton.jit
def keys(group, kept, D: tl.constexpr):
    """The keys of a group, [D, 32], channels that they keep first and 0 behind them."""
    c = tl.arange(0, D)
    return tl.load(numbers(group) + c[:, None] * G + tl.arange(0, G)[None, :], mask=(c < kept)[:, None], other=0.0)


@triton.jit
def attend(q, tiles, groups, packed, out, lse, layer, rows, heads, kv_heads, span, size, scale, D: tl.constexpr, M: tl.constexpr):
    """Softmax attention of one tile of queries of one KV head over one span of its groups; program (tile, KV head, split). See
    packed.attend_packed; size is not used."""
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
    mix = tl.zeros([M, D], tl.float32)
    if from_ < to:
        at, kept, size = groups_of(tl.load(groups + tile), layer, kv, kv_heads, D)
        query = queries(q, row, head, have, heads, channels_of(at, kept, D), kept, D)
        for number in range(from_, to):
            group = at + number.to(tl.int64) * size
            x = tl.dot(query, keys(group, kept, D)) * (scale * 1.4426950408889634)
            higher = tl.maximum(peak, tl.max(x, 1))
            shrink = tl.exp2(peak - higher)
            p = tl.exp2(x - higher[:, None])
            sum_ = sum_ * shrink + tl.sum(p, 1)
            value = tl.load(numbers(group) + kept * G + tl.arange(0, G)[:, None] * D + d[None, :])
            mix = tl.dot(p.to(tl.bfloat16), value, mix * shrink[:, None])
            peak = higher
        mix = mix / sum_[:, None]
    total = tl.where(sum_ > 0, (peak + tl.log2(sum_)) * 0.6931471805599453, float("-inf"))
    r = (split.to(tl.int64) * rows + row) * heads + head
    tl.store(lse + r, total, mask=have)
    tl.store(out + r[:, None] * D + d[None, :], mix, mask=have[:, None])


@triton.jit
def observe(q, lse, blocks, groups, packed, positions, out, layer, rows, heads, kv_heads, splits, size, scale, last,
            D: tl.constexpr, M: tl.constexpr):
    """What the tokens of a group get of the attention of a block's rows; program (group, KV head, block). See
    packed.observe_packed; size is not used."""
    block = blocks + tl.program_id(2) * 6
    kv = tl.program_id(1)
    number = tl.program_id(0)
    share = heads // kv_heads
    first = tl.load(block)
    count = tl.load(block + 1).to(tl.int32) * share
    if number < tl.load(packed + first * kv_heads + kv):
        at, kept, size = groups_of(tl.load(groups + tl.program_id(2)), layer, kv, kv_heads, D)
        channel = channels_of(at, kept, D)
        key = keys(at + number.to(tl.int64) * size, kept, D)
        total = tl.zeros([G], tl.float32)
        for from_ in range(0, count, M):
            i = from_ + tl.arange(0, M)
            inside = i < count
            row = first + i // share
            head = kv * share + i % share
            whole = attention.joined(lse, row, head, inside, rows, heads, splits, M)
            p = tl.exp2(tl.dot(queries(q, row, head, inside, heads, channel, kept, D), key) * (scale * 1.4426950408889634) - whole[:, None])
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
