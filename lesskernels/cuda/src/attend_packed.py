"""Attention over packed groups (see packed.py), whose codes each thread makes numbers of as the matrix unit takes them.

Each warp takes every fourth group, for eight queries, with nothing to exchange until the end. A code is used as it is, in one to three
instructions for two; scales go to what codes are multiplied by, and all that is multiplied is f16:

    keys    have a scale for each channel, so queries get it, once for 32 tokens: as the sum of two numbers, which are rows i and
            8 + i of the matrix unit. A code as the bits of an f16 is code · 2⁻²⁴, which the matrix unit takes as any other number
    values  have a scale for each token, so weights get it. Minima are multiplied by weights alone

Lane 4g + t has, of keys, tokens 8(g/2) + g%2 + 2j and channels tD/4 …; of values, channels g + 8i and tokens 8t ….
"""
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import mma_v2

from codes import axis

WARPS = gl.constexpr(4)


def assembly(words, pairs, step, declare=""):
    """PTX that makes pairs of each of so many words, and its registers."""
    lines = [declare] + [line for word in range(words) for i in range(pairs) for line in step(f"${word * pairs + i}", f"${words * pairs + word}", i)]
    return "{ .reg .b32 a; " + " ".join(lines) + " }", ",".join(["=&r"] * words * pairs + ["r"] * words)


def constants(**of):
    """Registers of pairs of the same number of 16 bits."""
    return " ".join(f".reg .b32 {name}; mov.b32 {name}, {bits * 0x10001:#x};" for name, bits in of.items())


def key4(to, word, i):
    return [f"shr.u32 a, {word}, {4 * i};", f"and.b32 {to}, a, 0x000F000F;"]


def key2(to, word, i):
    """What is left is 0, 2 or 4 too far."""
    return [f"shr.u32 a, {word}, {i // 3 * 6};", f"and.b32 {to}, a, {(3 << i % 3 * 2) * 0x10001:#x};"]


def kept(bits):
    """Of keys that have lost channels: where other tokens' codes lie is what is left too far, by stretch."""
    def step(to, word, i):
        n = i * bits % 8
        mask = f"{((1 << bits) - 1 << n) * 0x10001:#x};"
        return [f"and.b32 {to}, {word}, {mask}"] if i * bits < 8 else [f"shr.u32 a, {word}, 8;", f"and.b32 {to}, a, {mask}"]
    return step


def fit(to, word, i):
    """The scale of a pair of key2."""
    return [f"mul.rn.f16x2 {to}, {word}, part{i % 3};" if i % 3 else f"mov.b32 {to}, {word};"]


def value(bits):
    """0x6400 | code << n is 1024 + 2ⁿ·code in f16."""
    def step(to, word, i):
        n = i * bits % 8
        return [f"shr.u32 a, {word}, {i * bits - n};", f"lop3.b32 a, a, {((1 << bits) - 1 << n) * 0x10001:#x}, 0x64006400, 0xEA;", f"fma.rn.f16x2 {to}, a, part{n}, less{n};"]
    return step


def whole(to, word, i):
    return [f"mov.b32 {to}, {word};"]


KEYS4, KEYS4_REGISTERS = map(gl.constexpr, assembly(2, 4, key4))
KEYS2, KEYS2_REGISTERS = map(gl.constexpr, assembly(2, 8, key2))
KEPT4, _ = map(gl.constexpr, assembly(2, 4, kept(4)))
KEPT2, _ = map(gl.constexpr, assembly(2, 8, kept(2)))
WHOLE, WHOLE_REGISTERS = map(gl.constexpr, assembly(2, 1, whole))
# Codes of values are counted from 8, or 2: a token's rounded weight is off by the same for all channels, which is least where they are about 0.
VALUES4, _ = map(gl.constexpr, assembly(2, 4, value(4), constants(part0=0x3C00, less0=0xE408, part4=0x2C00, less4=0xD480)))
VALUES2, _ = map(gl.constexpr, assembly(2, 8, value(2), constants(
    part0=0x3C00, less0=0xE402, part2=0x3400, less2=0xDC08, part4=0x2C00, less4=0xD420, part6=0x2400, less6=0xCC80)))
MIDDLE4, MIDDLE2 = (gl.constexpr("{ " + constants(up=up) + " fma.rn.f16x2 $0, $1, up, $2; }") for up in (0x4800, 0x4000))
FIT = gl.constexpr("{ " + constants(part1=0x3400, part2=0x2C00) + " " + " ".join(line for i in range(8) for line in fit(f"${i}", f"${8 + i}", i)) + " }")
FIT_REGISTERS = gl.constexpr(",".join(["=&r"] * 8 + ["r"] * 8))
# Of high and low part of a number and a scale, the parts of their product.
SCALED = gl.constexpr("{ .reg .b32 a; " + " ".join(
    f"mul.rn.f16x2 ${i}, ${4 + i}, ${8 + i}; neg.f16x2 a, ${i}; fma.rn.f16x2 a, ${4 + i}, ${8 + i}, a; fma.rn.f16x2 ${2 + i}, ${6 + i}, ${8 + i}, a;" for i in range(2)) + " }")
SCALED_REGISTERS = gl.constexpr(",".join(["=&r"] * 4 + ["r"] * 6))


@gluon.jit
def either(a, b):
    return a | b


@gluon.constexpr_function
def shape_of(shape, *last):
    return [*shape[:-1], *last]


@gluon.constexpr_function
def swapped(shape):
    """The order of dimensions with the last two swapped, of one more than shape has and one more."""
    n = len(shape)
    return [*range(n), n + 1, n]


@gluon.jit
def halves(words):
    """words [..., n] i32 → [..., 2n] f16."""
    N: gl.constexpr = words.shape[len(words.shape) - 1]
    a, b = gl.inline_asm_elementwise(WHOLE, WHOLE_REGISTERS, [words], dtype=(gl.float16,) * 2, is_pure=True, pack=2)
    x = gl.join(a, b).reshape(shape_of(words.shape, N // 2, 2, 2))  # pairs of words, which half, and which word
    return x.permute(swapped(words.shape)).reshape(shape_of(words.shape, 2 * N))


@gluon.jit
def pairs_of(words, BITS: gl.constexpr, four: gl.constexpr, two: gl.constexpr):
    """words [S, C, 8, 4, 4] i32 of codes → [S, 8, 4, pairs, 2] f16, all pairs of a lane, by assembly for four bits or for two."""
    S: gl.constexpr = words.shape[0]
    C: gl.constexpr = words.shape[1]
    if BITS == 4:
        a, b, c, d, e, f, g, h = gl.inline_asm_elementwise(four, KEYS4_REGISTERS, [words], dtype=(gl.float16,) * 8, is_pure=True, pack=2)
        x = gl.join(gl.join(gl.join(a, b), gl.join(c, d)), gl.join(gl.join(e, f), gl.join(g, h)))
        # words / 2, half, the bits of a pair, words % 2
        x = x.reshape([S, C, 8, 4, 2, 2, 2, 2, 2]).permute([0, 2, 3, 1, 4, 8, 7, 6, 5])
        return x.reshape([S, 8, 4, C * 16, 2])
    else:
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p = gl.inline_asm_elementwise(two, KEYS2_REGISTERS, [words], dtype=(gl.float16,) * 16, is_pure=True, pack=2)
        x = gl.join(gl.join(gl.join(a, b), gl.join(c, d)), gl.join(gl.join(e, f), gl.join(g, h)))
        y = gl.join(gl.join(gl.join(i, j), gl.join(k, l)), gl.join(gl.join(m, n), gl.join(o, p)))
        x = gl.join(x, y).reshape([S, C, 8, 4, 2, 2, 2, 2, 2, 2]).permute([0, 2, 3, 1, 4, 9, 8, 7, 6, 5])
        return x.reshape([S, 8, 4, C * 32, 2])


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
    """turned, of the stages from FIRST on, where block is larger."""
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
def room_of(scales, layout: gl.constexpr):
    """Times 2 to how much weights are still f16, as they are and times scales [S, NB, 8, 4, 4] i32: [S, 8]."""
    e = gl.reduce(gl.reduce(gl.reduce(scales, 4, either), 3, either), 1, either)
    return gl.convert_layout(gl.minimum(29 - ((e | e >> 16) >> 10 & 31), 15).to(gl.float32), layout)


@gluon.jit
def stretch(BITS: gl.constexpr, SIGN: gl.constexpr, layout: gl.constexpr):
    """Of the tokens of scores, by what kept makes codes too large, or one by it: [1, 1, 32]."""
    far = axis(2, 3, 32, layout) // 8 % (8 // BITS) * BITS
    return (127 + SIGN * far << 23).to(gl.float32, bitcast=True)


@gluon.jit
def scores(asked, parts, words, minima, mma: gl.constexpr, D: gl.constexpr, BITS: gl.constexpr, PRUNED: gl.constexpr):
    """2⁻²⁴ of queries times keys [S, 8, 32], and stretch where they have lost channels: times minima, of which all tokens have the same,
    and parts, which are times scales, times codes."""
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
        return begin, gl.multiple_of(gl.load(about + 1) // 4, 4), kept, gl.multiple_of((kept + line - 1) // line * line, line), (about + 4).to(gl.pointer_type(gl.int16), bitcast=True)
    else:
        return begin, gl.multiple_of(size // 4, 4), D, D, begin


@gluon.jit
def keys_of(g, at, filled, D: gl.constexpr, BITS: gl.constexpr, PRUNED: gl.constexpr):
    """Codes, scales and minima of keys of groups that begin at g, for words_of, and at, for channels_of. Behind channels that keys keep
    others are read, as of what lies there: queries are 0."""
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


@gluon.jit
def attend_packed(q, tiles, groups, packed, out, lse, layer, rows, heads, kv_heads, span, size, scale,
                  D: gl.constexpr, BITS: gl.constexpr, STAGES: gl.constexpr, SHARE: gl.constexpr, PRUNED: gl.constexpr):
    """Softmax attention of one tile of queries of one KV head over one span of its groups; program (tile, KV head and eighth head of
    its group, split). See attention.attend.

        groups [tiles] i64: the address of the table [layers, kv_heads] i64 of the sequence's groups, of addresses of first groups
        packed [rows, kv_heads] i32: how many groups the row sees, as many as the first of its tile
        span   groups of a split
        size   bytes of a group
        PRUNED keys have lost channels: see pruned.py, where size is not used
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
