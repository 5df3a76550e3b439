"""The likeliest tokens of rows of logits, so that the others need not leave the card.

    logits  [rows, vocab] f32
    count   [rows] i32: how many tokens are wanted, at most C
    heat    [rows] f32: temperatures
    tops    [rows, blocks, C] i64: of each block of BLOCK tokens the likeliest, the first highest. A key has the logit in its
            high half, as a number that is ordered like it, and 2³¹ − 1 − token in its low one: of equals the first token is higher
    sums    [rows, blocks, 2] f32: the highest logit m of a block, and Σ exp((logit − m) / heat)
    out     [rows, C + 1] i64: the likeliest of all, and in the low half of the last the sum of all, m being the highest
"""
import triton
import triton.language as tl

LEAST = tl.constexpr(-(2**63))


@triton.jit
def select(keys, count, to):
    """Writes the highest keys, of which no two are equal."""
    for i in range(0, count):
        highest = tl.max(keys, 0)
        tl.store(to + i, highest)
        keys = tl.where(keys == highest, LEAST, keys)


@triton.jit
def of_blocks(logits, count, heat, tops, sums, vocab, C: tl.constexpr, BLOCK: tl.constexpr):
    """Program (block, row)."""
    block, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    token = block * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(logits + row * vocab + token, mask=token < vocab, other=-float("inf"))
    at = row * tl.num_programs(0) + block
    highest = tl.maximum(tl.max(x, 0), -3.0e38)  # not −∞, of which none can be taken
    tl.store(sums + at * 2, highest)
    tl.store(sums + at * 2 + 1, tl.sum(tl.exp((x - highest) / tl.load(heat + row)), 0))
    bits = x.to(tl.int32, bitcast=True)
    keys = (bits ^ (bits >> 31 & 0x7FFFFFFF)).to(tl.int64) << 32 | (0x7FFFFFFF - token).to(tl.int64)
    select(keys, tl.load(count + row), tops + at * C)


@triton.jit
def of_all(tops, sums, count, heat, out, blocks, C: tl.constexpr, BLOCKS: tl.constexpr):
    """Program (row); blocks ≤ BLOCKS."""
    row = tl.program_id(0).to(tl.int64)
    b = tl.arange(0, BLOCKS)
    each = sums + (row * blocks + b) * 2
    highest = tl.load(each, mask=b < blocks, other=-float("inf"))
    part = tl.load(each + 1, mask=b < blocks, other=0.0)
    total = tl.sum(part * tl.exp((highest - tl.max(highest, 0)) / tl.load(heat + row)), 0)
    tl.store(out + row * (C + 1) + C, total.to(tl.int32, bitcast=True).to(tl.int64))
    at = tl.arange(0, BLOCKS * C)
    wanted = tl.load(count + row)
    keys = tl.load(tops + row * blocks * C + at, mask=(at < blocks * C) & (at % C < wanted), other=LEAST)
    select(keys, wanted, out + row * (C + 1))
