"""Queries times keys of packed groups: see attend_packed.py."""
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import mma_v2

from codes import axis
from fragments import FIT, FIT_REGISTERS, KEPT2, KEPT4, KEYS2, KEYS4, SCALED, SCALED_REGISTERS, WHOLE, WHOLE_REGISTERS, halves, pairs_of

WARPS = gl.constexpr(4)


@gluon.jit
def turned(x, STAGES: gl.constexpr):
    """The Walsh-Hadamard transform of the last dimension of x [T, H, 2^STAGES], without its factor."""
    T: gl.constexpr = x.shape[0]
    H: gl.constexpr = x.shape[1]
    N: gl.constexpr = 1 << STAGES
    for i in gl.static_range(STAGES):
        a, b = gl.split(x.reshape([T, H, N >> (i + 1), 2, 1 << i]).permute([0, 1, 2, 4, 3]))
        x = gl.join(a + b, a - b).permute([0, 1, 2, 4, 3]).reshape([T, H, N])
    return x


@gluon.jit
def mix(x, D: gl.constexpr, STAGES: gl.constexpr, SHARE: gl.constexpr):
    """packed.mix of x [8, D], in two steps: of 16 neighbours, which a thread has, and of what stands 16 apart."""
    L: gl.constexpr = D // 16
    near: gl.constexpr = gl.BlockedLayout([1, 1, 16], [32 // L, L, 1], [WARPS, 1, 1], [2, 1, 0])
    far: gl.constexpr = gl.BlockedLayout([1, 1, L], [2, 16, 1], [WARPS, 1, 1], [2, 1, 0])
    y = turned(gl.convert_layout(x.reshape([8, L, 16]), near), 4)
    y = turned(gl.convert_layout(y.permute([0, 2, 1]), far), STAGES - 4)
    return y.permute([0, 2, 1]).reshape([8, D]) * SHARE


@gluon.jit
def turned_kept(x, block, FIRST: gl.constexpr, STAGES: gl.constexpr):
    """turned, of stages FIRST …, where block is larger than the stage; and block."""
    T: gl.constexpr = x.shape[0]
    H: gl.constexpr = x.shape[1]
    N: gl.constexpr = 1 << STAGES
    for i in gl.static_range(STAGES):
        a, b = gl.split(x.reshape([T, H, N >> (i + 1), 2, 1 << i]).permute([0, 1, 2, 4, 3]))
        m, n = gl.split(block.reshape([T, H, N >> (i + 1), 2, 1 << i]).permute([0, 1, 2, 4, 3]))
        x = gl.join(gl.where(m > FIRST + i, a + b, a), gl.where(n > FIRST + i, a - b, b)).permute([0, 1, 2, 4, 3]).reshape([T, H, N])
        block = gl.join(m, n).permute([0, 1, 2, 4, 3]).reshape([T, H, N])
    return x, block


@gluon.jit
def mix_kept(x, kept, D: gl.constexpr, STAGES: gl.constexpr):
    """pruned.mix of x [8, D], as mix does it."""
    L: gl.constexpr = D // 16
    near: gl.constexpr = gl.BlockedLayout([1, 1, 16], [32 // L, L, 1], [WARPS, 1, 1], [2, 1, 0])
    far: gl.constexpr = gl.BlockedLayout([1, 1, L], [2, 16, 1], [WARPS, 1, 1], [2, 1, 0])
    c = (axis(1, 3, L, near) * 16 + axis(2, 3, 16, near) ^ kept).broadcast_to([8, L, 16])
    block = gl.zeros([8, L, 16], gl.int32, near)
    for i in gl.static_range(1, STAGES + 1):
        block += (c >> i != 0).to(gl.int32)
    y, block = turned_kept(gl.convert_layout(x.reshape([8, L, 16]), near), block, 0, 4)
    y, block = turned_kept(gl.convert_layout(y.permute([0, 2, 1]), far), gl.convert_layout(block.permute([0, 2, 1]), far), 4, STAGES - 4)
    y *= (127 - block // 2 << 23).to(gl.float32, bitcast=True) * gl.where(block % 2 == 0, 1.0, 0.7071067811865476)
    return y.permute([0, 2, 1]).reshape([8, D])


@gluon.jit
def rows_of(x, S: gl.constexpr, N: gl.constexpr):
    """x [S, 16, N] → rows i and 8 + i."""
    return gl.split(x.reshape([S, 2, 8, N]).permute([0, 2, 3, 1]))


@gluon.jit
def in_words(x, D: gl.constexpr):
    """x [S, 8, 4, D/4] f16 → [S, 8, 4, D/8] i32."""
    a, b = gl.split(x.to(gl.int16, bitcast=True).to(gl.int32).reshape([WARPS, 8, 4, D // 8, 2]))
    return a & 0xFFFF | b << 16


@gluon.jit
def both(a, b, c, e, D: gl.constexpr, left: gl.constexpr):
    """Of two numbers, whose pairs are in a, b and in c, e: [S, 16, D]."""
    x = gl.join(gl.join(a, b), gl.join(c, e)).reshape([WARPS, 8, 4, D // 16, 2, 2, 2])  # which half, which word, which number
    return gl.convert_layout(x.permute([0, 6, 1, 3, 5, 2, 4]).reshape([WARPS, 16, D]), left)


@gluon.jit
def unscaled(high, low, D: gl.constexpr, left: gl.constexpr):
    a, b = gl.inline_asm_elementwise(WHOLE, WHOLE_REGISTERS, [high], dtype=(gl.float16,) * 2, is_pure=True, pack=2)
    c, e = gl.inline_asm_elementwise(WHOLE, WHOLE_REGISTERS, [low], dtype=(gl.float16,) * 2, is_pure=True, pack=2)
    return both(a, b, c, e, D, left)


@gluon.jit
def scaled(high, low, scales, D: gl.constexpr, BITS: gl.constexpr, PRUNED: gl.constexpr, left: gl.constexpr):
    if BITS == 2 and not PRUNED:
        scales = gl.inline_asm_elementwise(FIT, FIT_REGISTERS, [scales], dtype=gl.int32, is_pure=True, pack=8)
    a, b, c, e = gl.inline_asm_elementwise(SCALED, SCALED_REGISTERS, [high, low, scales], dtype=(gl.float16,) * 4, is_pure=True, pack=2)
    return both(a, b, c, e, D, left)


@gluon.jit
def stretch(BITS: gl.constexpr, SIGN: gl.constexpr, layout: gl.constexpr):
    """By what kept makes codes too large, of the tokens of scores: [1, 1, 32]; one by it, where SIGN is -1."""
    far = axis(2, 3, 32, layout) // 8 % (8 // BITS) * BITS
    return (127 + SIGN * far << 23).to(gl.float32, bitcast=True)


@gluon.jit
def scores(asked, parts, words, minima, mma: gl.constexpr, D: gl.constexpr, BITS: gl.constexpr, PRUNED: gl.constexpr):
    """2⁻²⁴ of queries times keys [S, 8, 32], times stretch where these have lost channels: of minima, of which all tokens have the same, and
    of parts, which are times scales, times codes."""
    S: gl.constexpr = WARPS
    right: gl.constexpr = gl.DotOperandLayout(1, mma, 2)
    m = halves(minima).reshape([S, 8, 4, D // 16, 2, 2]).permute([0, 3, 4, 2, 5, 1]).reshape([S, D, 8])
    x = mma_v2(asked, gl.convert_layout(m, right), gl.zeros([S, 16, 8], gl.float32, mma)) * 5.9604644775390625e-08
    x = gl.convert_layout(x.reshape([S, 16, 1, 8]).broadcast_to([S, 16, 4, 8]).reshape([S, 16, 32]), mma)
    if PRUNED:
        x = x * stretch(BITS, 1, mma)
        k = pairs_of(words, BITS, KEPT4, KEPT2).reshape([S, 8, 4, D // 16, 2, 4, 2]).permute([0, 3, 4, 2, 6, 5, 1]).reshape([S, D, 32])
    else:
        k = pairs_of(words, BITS, KEYS4, KEYS2).reshape([S, 8, 4, 4, D // 16, 2, 2]).permute([0, 4, 5, 2, 6, 3, 1]).reshape([S, D, 32])
    upper, lower = rows_of(mma_v2(parts, gl.convert_layout(k, right), x), S, 32)
    return upper + lower


@gluon.constexpr_function
def base_of(D):
    """Of rows of eight queries."""
    return gl.BlockedLayout([1, 16], [512 // D, D // 16], [4, 1], [1, 0])


@gluon.jit
def of_warps(x, layout: gl.constexpr):
    """x [8] of queries, for each warp: [S, 8]."""
    each: gl.constexpr = gl.BlockedLayout([1, 1], [4, 8], [WARPS, 1], [1, 0])
    return gl.convert_layout(gl.convert_layout(x.reshape([1, 8]), each).broadcast_to([WARPS, 8]), layout)


@gluon.jit
def ask(q, at, have, scale, channels_at, kept, D: gl.constexpr, BITS: gl.constexpr, STAGES: gl.constexpr, SHARE: gl.constexpr, PRUNED: gl.constexpr):
    """Of eight queries, which begin at [8], what is multiplied by minima, both its parts, which are multiplied by scales, and by what
    2⁻²⁴ of the scores that they give are multiplied, to the base 2: [8]."""
    S: gl.constexpr = WARPS
    base: gl.constexpr = base_of(D)
    mma: gl.constexpr = gl.NVMMADistributedLayout(version=[2, 0], warps_per_cta=[S, 1, 1], instr_shape=[1, 16, 8])
    d = gl.arange(0, D, gl.SliceLayout(0, base))
    if PRUNED:
        channel = gl.load(channels_at + d, mask=d < kept, other=0).to(gl.int32)
        query = gl.load(q + at[:, None] + channel[None, :], mask=have[:, None] & (d < kept)[None, :], other=0.0).to(gl.float32)
        query = mix_kept(query, kept, D, STAGES).reshape([8, D * BITS // 32, 4, 8 // BITS]).permute([0, 2, 1, 3]).reshape([8, D])
        query = gl.convert_layout(query, base)
    else:
        query = mix(gl.load(q + at[:, None] + d[None, :], mask=have[:, None], other=0.0).to(gl.float32), D, STAGES, SHARE)
    # The largest number of a query is made 2 to 4, by a power of two: times scales below 2¹⁴ none is too large.
    power = gl.maximum(gl.max(gl.abs(query), 1).to(gl.int32, bitcast=True) & 0x7F800000, 0x02000000)
    up = (0x7F800000 - power).to(gl.float32, bitcast=True)
    query *= up[:, None]
    of_lane: gl.constexpr = gl.BlockedLayout([1, 1, 1, D // 4], [1, 8, 4, 1], [S, 1, 1, 1], [3, 2, 1, 0])
    query = gl.convert_layout(query.reshape([1, 8, 4, D // 4]), of_lane).broadcast_to([S, 8, 4, D // 4])
    high = query.to(gl.float16)
    low = (query - high.to(gl.float32)).to(gl.float16)
    channels: gl.constexpr = channels_of(D)
    high = gl.convert_layout(in_words(high, D), channels)
    low = gl.convert_layout(in_words(low, D), channels)
    down = (power - (1 << 23)).to(gl.float32, bitcast=True) * (scale * (1.4426950408889634 * 16777216))
    return unscaled(high, low, D, gl.DotOperandLayout(0, mma, 2)), high, low, down


@gluon.jit
def place(groups, layer, kv, kv_heads, size, D: gl.constexpr, BITS: gl.constexpr, PRUNED: gl.constexpr):
    """Of the groups of a KV head: where they begin, how many words one has, how many channels keys keep, and are filled up to, and where
    it is told which. groups is where the address of the table is."""
    table = gl.load(groups).to(gl.pointer_type(gl.int64))
    begin = gl.multiple_of(gl.load(table + layer * kv_heads + kv).to(gl.pointer_type(gl.int32)), 16)
    if PRUNED:
        about = begin - (D // 2 + 4)
        kept = gl.load(about)
        line: gl.constexpr = 16 // BITS
        step = gl.multiple_of(gl.load(about + 1) // 4, 4)
        filled = gl.multiple_of((kept + line - 1) // line * line, line)
        return begin, step, kept, filled, (about + 4).to(gl.pointer_type(gl.int16), bitcast=True)
    else:
        return begin, gl.multiple_of(size // 4, 4), D, D, begin


@gluon.jit
def keys_of(g, at, filled, D: gl.constexpr, BITS: gl.constexpr, PRUNED: gl.constexpr):
    """Codes, scales and minima of keys of groups that begin at g, for words_of, and at, for channels_of. Where keys have fewer channels,
    what lies behind them in the group is read for the others, and queries are 0."""
    S: gl.constexpr = WARPS
    C: gl.constexpr = D * BITS // 128
    words: gl.constexpr = words_of(D, BITS)
    channels: gl.constexpr = channels_of(D)
    if PRUNED:
        lane = (axis(1, 5, C, words) * 4 + axis(4, 5, 4, words)) * 32 + axis(3, 5, 4, words) * 8 + axis(2, 5, 8, words)
        N: gl.constexpr = 4 // BITS
        pair = axis(3, 4, D // 8, channels)
        channel = pair // N * (4 * N) + axis(2, 4, 4, channels) * N + pair % N
    else:
        lane = axis(1, 5, C, words) * 128 + axis(2, 5, 8, words) * 16 + axis(3, 5, 4, words) * 4 + axis(4, 5, 4, words)
        channel = axis(2, 4, 4, channels) * (D // 8) + axis(3, 4, D // 8, channels)
    word = (at + (filled + D) * BITS + channel).broadcast_to([S, 8, 4, D // 8])
    return gl.load(g + lane), gl.load(word), gl.load(word + filled // 2)


@gluon.constexpr_function
def words_of(D, BITS):
    """Of codes of a lane, four words each."""
    return gl.BlockedLayout([1, D * BITS // 128, 1, 1, 4], [1, 1, 8, 4, 1], [4, 1, 1, 1, 1], [4, 3, 2, 1, 0])


@gluon.constexpr_function
def channels_of(D):
    """Of pairs of channels of keys."""
    return gl.BlockedLayout([1, 1, 1, D // 8], [1, 8, 4, 1], [4, 1, 1, 1], [3, 2, 1, 0])
