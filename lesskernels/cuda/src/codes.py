"""Products with weights in codes of four or eight bits, and rows of them.

Codes lie in the order in which threads hold them when the matrix unit multiplies: each loads words of
its own and makes pairs of bf16 of them, with nothing to exchange. A code times an activation is exact in
bf16, and the sums of a group are float32, so a product is as exact as its activations. Groups are G = 16 or 32
neighbouring columns; their number is filled up with zeros to a multiple of 4, and rows to one of 16.

    codes   [outs/16, cols/G, 8, 4, P, 2] i32: the words of lane 4g + t for rows g and 8 + g, columns tG/4 … (t+1)G/4
            of a tile and group. 8 bits, signed: a word has columns 4p … 4p+3. 4 bits, G = 32: from the lowest on columns
            0, 2, 4, 6, 1, 3, 5, 7
    scales  [outs/16, cols/G, 8, 2, N] f16: of rows g and 8 + g;   w = scale · code
            with OFFSET also offsets, N = 2;                       w = scale · code + offset
    x       [rows, cols] bf16
    y       [rows, stride] f32, of which the first outs are written
"""
import triton
import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import mma_v2

WARPS = gl.constexpr(4)  # each takes every fourth group of a tile, in whatever batch


def unpack(pairs, step):
    """PTX that makes pairs of bf16 of each of two words, and its registers; "=&r": none is shared with a word."""
    lines = [f".reg .b32 {name};" for name in ("a", "less", "one")] + ["mov.b32 one, 0x3F803F80;", "mov.b32 less, 0xC300C300;"]
    for word in range(2):
        for i in range(pairs):
            lines += step(f"${2 * pairs + word}", i) + [f"fma.rn.bf16x2 ${word * pairs + i}, a, one, less;"]
    return "{ " + " ".join(lines) + " }", ",".join(["=&r"] * 2 * pairs + ["r", "r"])


def nibbles(word, i):
    """0x4300 | code is 128 + code in bf16."""
    return [f"shr.u32 a, {word}, {4 * i};", "lop3.b32 a, a, 0x000F000F, 0x43004300, 0xEA;"]


def octets(word, i):
    """Of a code with a sign 128 + the low bits, less 128, or 256 where it is set."""
    return [f"prmt.b32 a, {word}, 0, {('0x4140', '0x4342')[i]};", "lop3.b32 less, a, 0x00800080, 0xC300C300, 0xEA;",
            "lop3.b32 a, a, 0x007F007F, 0x43004300, 0xEA;"]


NIBBLES, NIBBLE_REGISTERS = map(gl.constexpr, unpack(4, nibbles))
OCTETS, OCTET_REGISTERS = map(gl.constexpr, unpack(2, octets))


@gluon.jit
def fragment(words, BITS: gl.constexpr, G: gl.constexpr):
    """words [S, M, 8, 4, 2P] i32 → codes [S, 16M, G] bf16, columns in the order of the matrix unit."""
    S: gl.constexpr = words.shape[0]
    M: gl.constexpr = words.shape[1]
    P: gl.constexpr = words.shape[4] // 2
    if BITS == 4:
        a, b, c, d, e, f, g, h = gl.inline_asm_elementwise(NIBBLES, NIBBLE_REGISTERS, [words], dtype=(gl.bfloat16,) * 8, is_pure=True, pack=2)
        pairs = gl.join(gl.join(gl.join(a, b), gl.join(c, d)), gl.join(gl.join(e, f), gl.join(g, h)))
        # the last are: words of a row, the low bit of a column, the next two, and which row
        codes = pairs.reshape([S, M, 8, 4, P, 2, 2, 2, 2]).permute([0, 1, 8, 2, 3, 4, 7, 6, 5])
    else:
        a, b, c, d = gl.inline_asm_elementwise(OCTETS, OCTET_REGISTERS, [words], dtype=(gl.bfloat16,) * 4, is_pure=True, pack=2)
        pairs = gl.join(gl.join(a, b), gl.join(c, d))
        codes = pairs.reshape([S, M, 8, 4, P, 2, 2, 2]).permute([0, 1, 7, 2, 3, 4, 6, 5])
    return codes.reshape([S, 16 * M, 4, G // 16, 2, 2]).permute([0, 1, 4, 2, 3, 5]).reshape([S, 16 * M, G])


@gluon.jit
def of_rows(values, parent: gl.constexpr):
    """values [S, M, 8, 2] of rows g and 8 + g → [S, 16M, 1] f32, as sums have them."""
    S: gl.constexpr = values.shape[0]
    M: gl.constexpr = values.shape[1]
    rows = values.to(gl.float32).permute([0, 1, 3, 2]).reshape([S, 16 * M])
    return gl.convert_layout(rows, gl.SliceLayout(2, parent), assert_trivial=True)[:, :, None]


@gluon.jit
def multiply(x, codes, scales, y, rows, outs, cols, stride,
             BITS: gl.constexpr, G: gl.constexpr, OFFSET: gl.constexpr, M: gl.constexpr, BR: gl.constexpr):
    """y[r, o] = Σ x[r, c] w[o, c] of 16M outputs and BR rows; program (outputs, rows)."""
    S: gl.constexpr = WARPS
    W: gl.constexpr = BITS * G // 64  # words of a lane
    N: gl.constexpr = 4 if OFFSET else 2  # scales and offsets of it
    T: gl.constexpr = G // 4  # columns of it
    mma: gl.constexpr = gl.NVMMADistributedLayout(version=[2, 0], warps_per_cta=[S, 1, 1], instr_shape=[1, 16, 8])
    left: gl.constexpr = gl.DotOperandLayout(0, mma, G // 8)
    right: gl.constexpr = gl.DotOperandLayout(1, mma, G // 8)
    words: gl.constexpr = gl.BlockedLayout([1, M, 1, 1, W], [1, 1, 8, 4, 1], [S, 1, 1, 1, 1], [4, 3, 2, 1, 0])
    pairs: gl.constexpr = gl.SliceLayout(3, gl.BlockedLayout([1, M, 1, 1, N], [1, 1, 8, 4, 1], [S, 1, 1, 1, 1], [4, 3, 2, 1, 0]))
    columns: gl.constexpr = gl.BlockedLayout([1, 1, 1, T], [1, 8, 4, 1], [S, 1, 1, 1], [3, 2, 1, 0])

    groups = cols // G
    padded = (groups + S - 1) // S * S
    tiles = (outs + 15) // 16
    # Where there are no rows or outputs any more, the last ones are computed again.
    tile = gl.minimum(gl.program_id(0) * M + axis(1, 5, M, words), tiles - 1).to(gl.int64)
    word = codes + (tile * padded + axis(0, 5, S, words)) * (32 * W) + (axis(2, 5, 8, words) * (4 * W) + axis(3, 5, 4, words) * W + axis(4, 5, W, words))
    tile = gl.minimum(gl.program_id(0) * M + axis(1, 4, M, pairs), tiles - 1).to(gl.int64)
    scale = scales + (tile * padded + axis(0, 4, S, pairs)) * (8 * N) + (axis(2, 4, 8, pairs) * N + axis(3, 4, N, pairs))
    row = gl.minimum(gl.program_id(1) * BR + axis(1, 4, BR, columns), rows - 1).to(gl.int64)
    number = x + row * cols + (axis(2, 4, 4, columns) * T + axis(3, 4, T, columns))
    warp = axis(0, 4, S, columns)

    ones = gl.full([S, 16 * M, G], 1.0, gl.bfloat16, left)
    none = gl.zeros([S, 16 * M, BR], gl.float32, mma)
    total = none
    for i in range(0, groups, S):
        at = gl.minimum(i + warp, groups - 1) * G  # the codes of groups that are not there are 0
        v = gl.load(number + at).reshape([S, BR, 4, G // 16, 2, 2]).permute([0, 4, 2, 3, 5, 1]).reshape([S, G, BR])
        v = gl.convert_layout(v, right, assert_trivial=True)
        a = gl.convert_layout(fragment(gl.load(word + i * (32 * W)), BITS, G), left, assert_trivial=True)
        s = gl.load(scale + i * (8 * N))
        if OFFSET:
            s, offset = gl.split(s.reshape([S, M, 8, 2, 2]))
            total += mma_v2(ones, v, none) * of_rows(offset, mma)
        total += mma_v2(a, v, none) * of_rows(s, mma)
    sums = gl.sum(total, 0)
    out: gl.constexpr = gl.SliceLayout(0, mma)
    o = gl.program_id(0) * (16 * M) + axis(0, 2, 16 * M, out)
    r = gl.program_id(1) * BR + axis(1, 2, BR, out)
    gl.store(y + r.to(gl.int64) * stride + o, sums, mask=(o < outs) & (r < rows))


@gluon.constexpr_function
def along(dim, rank, layout):
    for i in reversed(range(rank)):
        if i != dim:
            layout = gl.SliceLayout(i, layout)
    return layout


@gluon.jit
def axis(DIM: gl.constexpr, RANK: gl.constexpr, SIZE: gl.constexpr, LAYOUT: gl.constexpr):
    """0 … SIZE−1 along one of the dimensions of a layout."""
    at = gl.arange(0, SIZE, along(DIM, RANK, LAYOUT))
    for i in gl.static_range(RANK):
        if i != DIM:
            at = at.expand_dims(i)
    return at


@triton.jit
def embed(tokens, codes, scales, x, cols, BITS: tl.constexpr, G: tl.constexpr, OFFSET: tl.constexpr, BLOCK: tl.constexpr):
    """x[i, :] f32 = row tokens[i] of the weights; program (i, block of columns). codes are bytes here."""
    i = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = c < cols
    row = tl.load(tokens + i)
    group = (row // 16).to(tl.int64) * ((cols // G + 3) // 4 * 4) + c // G
    of_row = row % 16 // 8
    lane = row % 8 * 4 + c % G // (G // 4)
    e = c % (G // 4)
    word = (group * 32 + lane) * (BITS * G // 64) + of_row
    if BITS == 4:
        nibble = e // 2 + e % 2 * 4
        b = tl.load(codes + word * 4 + nibble // 2, mask=inside, other=0).to(tl.int32)
        code = b >> (nibble % 2 * 4) & 15
    else:
        code = tl.load(codes + (word + e // 4 * 2) * 4 + e % 4, mask=inside, other=0)
    at = (group * 8 + row % 8) * 2 + of_row
    if OFFSET:
        at *= 2
    w = code.to(tl.float32) * tl.load(scales + at, mask=inside, other=0.0).to(tl.float32)
    if OFFSET:
        w += tl.load(scales + at + 1, mask=inside, other=0.0).to(tl.float32)
    tl.store(x + i * cols + c, w, mask=inside)
