"""LESS (arXiv 2402.09398): what queries ask of a state, and what states absorb."""
import triton
import triton.language as tl

import pruned


@triton.jit
def gelu(x):
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def perceptron(even, odd, first, second, hidden, rank, i, r, T: tl.constexpr, HB: tl.constexpr):
    """gelu(gelu(x·first)·second) of T rows x [D], given by its even and its odd columns.

        first  [D, hidden] f32
        second [hidden, rank] f32
        i      0…D/2-1
        r      0…R-1, of which rank are real: the others give 0
    """
    out = tl.zeros([T, r.shape[0]], tl.float32)
    for from_ in range(0, hidden, HB):
        h = from_ + tl.arange(0, HB)
        inside = h < hidden
        a = tl.load(first + i[:, None] * 2 * hidden + h[None, :], mask=inside[None, :], other=0.0)
        b = tl.load(first + (i[:, None] * 2 + 1) * hidden + h[None, :], mask=inside[None, :], other=0.0)
        x = tl.dot(even, a, input_precision="ieee")
        x = gelu(tl.dot(odd, b, x, input_precision="ieee"))
        w = tl.load(second + h[:, None] * rank + r[None, :], mask=inside[:, None] & (r < rank)[None, :], other=0.0)
        out = tl.dot(x, w, out, input_precision="ieee")
    return gelu(out)


@triton.jit
def phi(qkv, asked, first, second, out, rows, heads, kv_heads, hidden, rank,
        D: tl.constexpr, R: tl.constexpr, T: tl.constexpr, HB: tl.constexpr):
    """φ of the queries of T rows, before their positions turn them or, of rounded ones, afterwards; program (tile of
    rows, head). A tile that asks no state is left alone.

        qkv    [rows, heads + 2·kv_heads, D] f32; or of queries alone, kv_heads = 0, bf16
        asked  [rows] i64: below 0 where a row asks no state
        first  [heads, D, hidden] f32
        second [heads, hidden, rank] f32
        out    [rows, heads, rank] f32
    """
    t = tl.program_id(0) * T + tl.arange(0, T)
    head = tl.program_id(1)
    have = t < rows
    if tl.max(tl.load(asked + t, mask=have, other=-1), 0) >= 0:
        i = tl.arange(0, D // 2)
        r = tl.arange(0, R)
        x = qkv + (t.to(tl.int64)[:, None] * (heads + 2 * kv_heads) + head) * D + 2 * i[None, :]
        even = tl.load(x, mask=have[:, None], other=0.0).to(tl.float32)
        odd = tl.load(x + 1, mask=have[:, None], other=0.0).to(tl.float32)
        f = perceptron(even, odd, first + head * D * hidden, second + head * hidden * rank, hidden, rank, i, r, T, HB)
        at = (t.to(tl.int64)[:, None] * heads + head) * rank + r[None, :]
        tl.store(out + at, tl.abs(f), mask=have[:, None] & (r < rank)[None, :])


@triton.jit
def gains(third, s1, s2, kv, rank, R: tl.constexpr):
    """What ψ of a KV head is scaled with and mixed by: s1, s2 [R], and third [R, R]."""
    q = tl.arange(0, R)
    r = tl.arange(0, R)
    real = r < rank
    w = tl.load(third + (kv * rank + q[:, None]) * rank + r[None, :], mask=(q < rank)[:, None] & real[None, :], other=0.0)
    return tl.abs(tl.load(s1 + kv * rank + r, mask=real, other=0.0)), tl.load(s2 + kv * rank + r, mask=real, other=0.0), w


@triton.jit
def psi(key, turn, inside, first, second, a1, a2, w, kv, hidden, rank, D: tl.constexpr, R: tl.constexpr, T: tl.constexpr, HB: tl.constexpr):
    """ψ of T keys, turned back by what their positions turned them."""
    i = tl.arange(0, D // 2)
    r = tl.arange(0, R)
    a = tl.load(key[:, None] + 2 * i[None, :], mask=inside[:, None], other=0.0).to(tl.float32)
    b = tl.load(key[:, None] + 2 * i[None, :] + 1, mask=inside[:, None], other=0.0).to(tl.float32)
    c = tl.load(turn[:, None] + i[None, :], mask=inside[:, None], other=0.0)
    s = tl.load(turn[:, None] + i[None, :] + D // 2, mask=inside[:, None], other=0.0)
    f = perceptron(a * c + b * s, b * c - a * s, first + kv * D * hidden, second + kv * hidden * rank, hidden, rank, i, r, T, HB)
    f = f * a1[None, :]
    return tl.abs(f + tl.dot(f, w, input_precision="ieee") * a2[None, :])


@triton.jit
def remember(memory, jobs, leaving, turns, first, second, third, s1, s2, layer, kv_heads, hidden, rank,
             D: tl.constexpr, R: tl.constexpr, T: tl.constexpr, HB: tl.constexpr):
    """Writes ψ of the keys of 32 tokens behind the group that they are packed in: see pruned.py; program (job, T tokens). jobs is
    that of packed.pack, the last number the first of its leaving tokens; the others are those of absorb."""
    job = jobs + tl.program_id(0) * 4
    kv = tl.load(job + 1).to(tl.int32)
    base, kept, size = pruned.groups_of(tl.load(job), layer, kv, kv_heads, D)
    t = tl.program_id(1) * T + tl.arange(0, T)
    at = leaving + (tl.load(job + 3) + t) * 5
    key = memory + (tl.load(at) + layer * tl.load(at + 2)) * D
    r = tl.arange(0, R)
    a1, a2, w = gains(third, s1, s2, kv, rank, R)
    f = psi(key, turns + tl.load(at + 4) * D, t >= 0, first, second, a1, a2, w, kv, hidden, rank, D, R, T, HB)
    to = (base + (tl.load(job + 2) + 1) * size - 64 * rank).to(tl.pointer_type(tl.bfloat16))
    tl.store(to + t[:, None] * rank + r[None, :], f.to(tl.bfloat16), mask=(r < rank)[None, :])


@triton.jit
def absorb(memory, jobs, leaving, turns, states, first, second, third, s1, s2, rates, layer, kv_heads, hidden, rank,
           D: tl.constexpr, R: tl.constexpr, T: tl.constexpr, HB: tl.constexpr):
    """Adds ψ(k)ᵀ v and ψ(k) of tokens that leave a KV head to its state, T at a time, always in the same order; what
    it holds, and they, fade until the state's clock, the highest position that it has been told of; program (job).

        memory  [·, D] bf16
        jobs    [jobs, 5] i64: where in states the table of the sequence is, the KV head, the first of its leaving
                tokens, how many, and the highest position of theirs
        leaving [·, 5] i64: the rows of memory where key and value of layer 0 lie, how many rows further those of the next
                layer do, the token's position, and the one by which its key is turned
        turns   [positions, D] f32: cos, and then sin, of the angles that the position turned the key by
        states  f32, the tables of sequences: [layers, kv_heads, 2], how much further the state is (i32; -1, there is none, and
                -2 - n, it will be n further when it has absorbed something) and its gate; and states, each H [rank, D],
                Z [rank] and then the clock (i32)
        first   [kv_heads, D, hidden], second [kv_heads, hidden, rank], third [kv_heads, rank, rank], s1, s2, rates [kv_heads, rank], f32
    """
    job = jobs + tl.program_id(0) * 5
    table = tl.load(job)
    kv = tl.load(job + 1).to(tl.int32)
    entry = states + table + (layer * kv_heads + kv) * 2
    further = tl.load(entry).to(tl.int32, bitcast=True)
    if further != -1:
        old = further >= 0
        further = tl.where(old, further, -2 - further)
        tokens = leaving + tl.load(job + 2) * 5
        count = tl.load(job + 3).to(tl.int32)
        d = tl.arange(0, D)
        r = tl.arange(0, R)
        real = r < rank
        h = states + table + further + r[:, None] * D + d[None, :]
        z = states + table + further + rank * D + r
        rate = tl.load(rates + kv * rank + r, mask=real, other=0.0)
        hand = states + table + further + rank * D + rank
        before = tl.load(hand, mask=old, other=0.0).to(tl.int32, bitcast=True)
        clock = tl.maximum(before, tl.load(job + 4).to(tl.int32))
        left = tl.exp(-rate * (clock - before).to(tl.float32))
        mix = tl.load(h, mask=real[:, None] & old, other=0.0) * left[:, None]
        mass = tl.load(z, mask=real & old, other=0.0) * left
        a1, a2, w = gains(third, s1, s2, kv, rank, R)
        for from_ in range(0, count, T):
            t = from_ + tl.arange(0, T)
            inside = t < count
            at = tokens + t * 5
            step = layer * tl.load(at + 2, mask=inside, other=0)
            row = tl.load(at, mask=inside, other=0)
            value = memory + ((tl.load(at + 1, mask=inside, other=0) + step) * D)[:, None] + d[None, :]
            position = tl.load(at + 3, mask=inside, other=0)
            turned = tl.load(at + 4, mask=inside, other=0)
            whole = inside & (turned >= 0)
            f = psi(memory + (row + step) * D, turns + turned * D, whole, first, second, a1, a2, w, kv, hidden, rank, D, R, T, HB)
            known = tl.load(memory + row[:, None] + r[None, :], mask=(inside & (turned < 0))[:, None] & real[None, :], other=0.0)
            f = tl.where(whole[:, None], f, known.to(tl.float32))
            f = f * tl.exp(-(clock - position.to(tl.int32)).to(tl.float32)[:, None] * rate[None, :])
            f = tl.where(inside[:, None], f, 0.0)
            v = tl.load(value, mask=inside[:, None], other=0.0).to(tl.float32)
            mix = tl.dot(tl.trans(f), v, mix, input_precision="ieee")
            mass += tl.sum(f, 0)
        tl.store(h, mix, mask=real[:, None])
        tl.store(z, mass, mask=real)
        tl.debug_barrier()
        tl.store(hand, clock.to(tl.float32, bitcast=True))
        tl.store(entry, further.to(tl.float32, bitcast=True))


@triton.jit
def turn(memory, turns, cos, sin, layer, D: tl.constexpr):
    """Turns keys anew from an exact copy, so that no rounding adds up (StreamingLLM, arXiv 2309.17453, numbers the sinks
    anew whenever tokens were evicted); program (turn, KV head).

        memory   [·, D] bf16
        turns    [turns, 8] i64: of the copy, and of the key, the rows of memory where those of layer 0, head 0 lie, and how many
                 rows further those of the next layer and of the next head do; whether the copy is still to be made; and by which
                 of the angles the key is turned. A key that is its own copy is turned where it lies.
        cos, sin [angles, D/2] f32
    """
    n = tl.program_id(0)
    head = tl.program_id(1)
    i = tl.arange(0, D // 2)
    m = turns + n * 8
    copy = memory + (tl.load(m) + layer * tl.load(m + 1) + head * tl.load(m + 2)) * D
    key = memory + (tl.load(m + 3) + layer * tl.load(m + 4) + head * tl.load(m + 5)) * D
    make = tl.load(m + 6) != 0
    source = copy
    if make:
        source = key
    x = tl.load(source + 2 * i)
    y = tl.load(source + 2 * i + 1)
    angle = tl.load(m + 7) * (D // 2) + i
    c = tl.load(cos + angle)
    s = tl.load(sin + angle)
    a = x.to(tl.float32)
    b = y.to(tl.float32)
    tl.store(copy + 2 * i, x, mask=make)
    tl.store(copy + 2 * i + 1, y, mask=make)
    tl.debug_barrier()
    tl.store(key + 2 * i, (a * c - b * s).to(tl.bfloat16))
    tl.store(key + 2 * i + 1, (a * s + b * c).to(tl.bfloat16))
