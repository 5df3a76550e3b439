"""Codes of packed groups as f16: see attend_packed.py."""
from triton.experimental import gluon
from triton.experimental.gluon import language as gl


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
    """Of keys that have lost channels: one shift at most, and what is left is too far by as much for all channels of a token, by stretch."""
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
