"""Attention over packed groups (see packed.py), whose codes each thread makes numbers of as the matrix unit takes them.

Each warp takes every fourth group, for eight queries, with nothing to exchange until the end. A code is used as it is, in one to three
instructions for two; scales go to what codes are multiplied by, and all that is multiplied is f16:

    keys    have a scale for each channel, so queries get it, once for 32 tokens: as the sum of two numbers, which are rows i and
            8 + i of the matrix unit. A code as the bits of an f16 is code · 2⁻²⁴, which the matrix unit takes as any other number
    values  have a scale for each token, so weights get it. Minima are multiplied by weights alone

Lane 4g + t has, of keys, tokens 8(g/2) + g%2 + 2j and channels tD/4 …; of values, channels g + 8i and tokens 8t ….
"""
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import mma_v2

from asked import WARPS, ask, base_of, channels_of, keys_of, mix, of_warps, place, rows_of, scaled, scores, stretch, words_of
from codes import axis
from fragments import MIDDLE2, MIDDLE4, VALUES2, VALUES4, halves, pairs_of


@gluon.jit
def either(a, b):
    return a | b


@gluon.jit
def room_of(scales, layout: gl.constexpr):
    """Times 2 to how much weights are still f16, as they are and times scales [S, NB, 8, 4, 4] i32: [S, 8]."""
    e = gl.reduce(gl.reduce(gl.reduce(scales, 4, either), 3, either), 1, either)
    return gl.convert_layout(gl.minimum(29 - ((e | e >> 16) >> 10 & 31), 15).to(gl.float32), layout)


@gluon.jit
def mixture(p, words, scales, minima, mixed, mma: gl.constexpr, D: gl.constexpr, BITS: gl.constexpr):
    """mixed [NB·S, 32, 8] and weights p [S, 8, 32] times values."""
    S: gl.constexpr = WARPS
    NB: gl.constexpr = D // 32
    left: gl.constexpr = gl.DotOperandLayout(0, mma, 2)
    right: gl.constexpr = gl.DotOperandLayout(1, mma, 2)
    p = p.to(gl.float16).permute([0, 2, 1]).reshape([1, S, 32, 8]).broadcast_to([NB, S, 32, 8]).reshape([NB * S, 32, 8])
    p = gl.convert_layout(p, right)
    s = halves(scales.permute([1, 0, 2, 3, 4])).reshape([NB, S, 8, 4, 4, 2])
    s = gl.convert_layout(s.permute([0, 1, 4, 3, 5, 2]).reshape([NB * S, 32, 8]), right)
    weights = gl.inline_asm_elementwise("mul.rn.f16x2 $0, $1, $2;", "=r,r,r", [s, p], dtype=gl.float16, is_pure=True, pack=2)
    m = gl.inline_asm_elementwise(MIDDLE4 if BITS == 4 else MIDDLE2, "=r,r,r", [scales, minima], dtype=gl.int32, is_pure=True, pack=1)
    m = halves(m.permute([1, 0, 2, 3, 4])).reshape([NB, S, 1, 8, 4, 4, 2]).broadcast_to([NB, S, 4, 8, 4, 4, 2])
    m = m.permute([0, 1, 2, 3, 5, 4, 6]).reshape([NB * S, 32, 32])
    v = pairs_of(words, BITS, VALUES4, VALUES2).reshape([S, 8, 4, NB, 4, 4, 2]).permute([3, 0, 4, 1, 5, 2, 6]).reshape([NB * S, 32, 32])
    return mma_v2(gl.convert_layout(v, left), weights, mma_v2(gl.convert_layout(m, left), p, mixed))


@gluon.jit
def columns_of(x, mma: gl.constexpr, NB: gl.constexpr):
    """x [S, 8] of queries → [NB·S, 1, 8]."""
    x = gl.convert_layout(x, gl.SliceLayout(1, mma)).reshape([1, WARPS, 1, 8]).broadcast_to([NB, WARPS, 1, 8])
    return gl.convert_layout(x.reshape([NB * WARPS, 1, 8]), mma)


@gluon.jit
def attend_packed(q, tiles, groups, packed, out, lse, layer, rows, heads, kv_heads, span, size, scale,
                  D: gl.constexpr, BITS: gl.constexpr, STAGES: gl.constexpr, SHARE: gl.constexpr, PRUNED: gl.constexpr):
    """Softmax attention of one tile of queries of one KV head over one span of its groups; program (tile, KV head and eighth head of
    its group, split). See attention.attend.

        groups [tiles] i64: the address of the table [layers, kv_heads] i64 of the sequence's groups, of addresses of first groups
        packed [rows, kv_heads] i32: how many groups the row sees, as many as the first of its tile
        span   groups of a split
        size   bytes of a group
        PRUNED keys have lost channels: see pruned.py; size is not used
    """
    S: gl.constexpr = WARPS
    NB: gl.constexpr = D // 32  # blocks of channels of a value
    C: gl.constexpr = D * BITS // 128  # of a lane, four words each
    mma: gl.constexpr = gl.NVMMADistributedLayout(version=[2, 0], warps_per_cta=[S, 1, 1], instr_shape=[1, 16, 8])
    left: gl.constexpr = gl.DotOperandLayout(0, mma, 2)
    words: gl.constexpr = words_of(D, BITS)
    channels: gl.constexpr = channels_of(D)
    tokens: gl.constexpr = gl.BlockedLayout([1, NB, 1, 1, 4], [1, 1, 8, 4, 1], [S, 1, 1, 1, 1], [4, 3, 2, 1, 0])
    base: gl.constexpr = base_of(D)
    of_query: gl.constexpr = gl.SliceLayout(1, base)

    tile = gl.program_id(0)
    group = heads // kv_heads
    passes = (group + 7) // 8
    kv = gl.program_id(1) // passes
    split = gl.program_id(2)
    first = gl.load(tiles + 2 * tile)
    count = gl.load(tiles + 2 * tile + 1)
    i = gl.program_id(1) % passes * 8 + gl.arange(0, 8, of_query)
    d = gl.arange(0, D, gl.SliceLayout(0, base))
    row = first + i // group
    have = i < count * group
    head = kv * group + i % group
    from_ = split * span
    to = gl.minimum(from_ + span, gl.load(packed + first * kv_heads + kv))
    if from_ < to:
        begin, step, kept, filled, channels_at = place(groups + tile, layer, kv, kv_heads, size, D, BITS, PRUNED)
        asked, high, low, down = ask(q, (row.to(gl.int64) * heads + head) * D, have, scale, channels_at, kept, D, BITS, STAGES, SHARE, PRUNED)
        x, _ = rows_of(gl.zeros([S, 16, 32], gl.float32, mma), S, 32)
        of_row: gl.constexpr = gl.SliceLayout(2, x.type.layout)
        down = of_warps(down, of_row)[:, :, None]
        if PRUNED:
            down = down * stretch(BITS, -1, x.type.layout)

        lane = axis(1, 5, C, words) * 128 + axis(2, 5, 8, words) * 16 + axis(3, 5, 4, words) * 4 + axis(4, 5, 4, words)
        token = axis(3, 5, 4, tokens) * 4 + axis(4, 5, 4, tokens)
        block = axis(1, 5, NB, tokens) * 16

        peak = gl.full([S, 8], -1e30, gl.float32, of_row)
        total = gl.sum(x.reshape([S, 8, 4, 8]), 2)
        mixed = gl.zeros([NB * S, 32, 8], gl.float32, mma)
        for number in range(from_, to, S):
            g = begin + gl.minimum(number + axis(0, 5, S, words), to - 1).to(gl.int64) * step
            of = begin + gl.minimum(number + axis(0, 4, S, channels), to - 1).to(gl.int64) * step
            key_codes, scales, minima = keys_of(g, of, filled, D, BITS, PRUNED)
            value_codes = gl.load(g + filled * BITS + lane)
            g = begin + gl.minimum(number + axis(0, 5, S, tokens), to - 1).to(gl.int64) * step
            word = (g + (filled + D) * BITS + filled + token + block).broadcast_to([S, NB, 8, 4, 4])
            value_scales = gl.load(word)
            value_minima = gl.load(word + D // 2)

            x = scores(asked, scaled(high, low, scales, D, BITS, PRUNED, left), key_codes, minima, mma, D, BITS, PRUNED) * down
            there = number + gl.arange(0, S, gl.SliceLayout(1, of_row)) < to
            higher = gl.where(there[:, None], gl.maximum(peak, gl.max(x, 2) - room_of(value_scales, of_row)), peak)
            top = gl.where(there[:, None], higher, float("inf"))
            shrink = gl.exp2(peak - higher)
            p = gl.exp2(x - top[:, :, None])
            peak = higher
            total = total * gl.convert_layout(shrink, gl.SliceLayout(2, total.type.layout))[:, :, None] + gl.sum(p.reshape([S, 8, 4, 8]), 2)
            mixed = mixture(p, value_codes, value_scales, value_minima, mixed * columns_of(shrink, mma, NB), mma, D, BITS)
        # The warps' parts, joined
        top = gl.max(peak, 0)
        part = gl.exp2(peak - top[None, :])
        total = gl.sum(gl.convert_layout(gl.sum(total, 2), of_row) * part, 0)
        mixed *= columns_of(part, mma, NB)
        mixed = gl.convert_layout(gl.sum(mixed.reshape([NB, S, 32, 8]), 1).reshape([D, 8]).permute([1, 0]), base)
        total = gl.convert_layout(total, of_query)
        mixed = gl.convert_layout(mix(mixed / total[:, None], D, STAGES, SHARE), base)
        r = ((split * rows + row) * heads + head).to(gl.int64)
        gl.store(out + r[:, None] * D + d[None, :], mixed, mask=have[:, None])
        gl.store(lse + r, (gl.convert_layout(top, of_query) + gl.log2(total)) * 0.6931471805599453, mask=have)
    else:
        r = ((split * rows + row) * heads + head).to(gl.int64)
        gl.store(lse + r, gl.full([8], float("-inf"), gl.float32, of_query), mask=have)
        gl.store(out + r[:, None] * D + d[None, :], gl.zeros([8, D], gl.float32, base), mask=have[:, None])

