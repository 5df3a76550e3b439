"""What tokens of packed groups get of attention: scores as in attend_packed.py, of keys alone."""
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from asked import WARPS, ask, base_of, channels_of, keys_of, of_warps, place, rows_of, scaled, scores, stretch, words_of
from codes import axis

SPAN = gl.constexpr(16)  # groups of a program: a query is rotated once for them


@gluon.jit
def joined(lse, at, have, stride, splits, layout: gl.constexpr):
    """attention.joined of eight queries."""
    peak = gl.full([8], float("-inf"), gl.float32, layout)
    total = gl.zeros([8], gl.float32, layout)
    for s in range(0, splits):
        x = gl.load(lse + s * stride + at, mask=have, other=0.0)
        higher = gl.maximum(peak, x)
        from_ = gl.where(higher == float("-inf"), 0.0, higher)
        total = total * gl.exp(peak - from_) + gl.exp(x - from_)
        peak = higher
    return peak * 1.4426950408889634 + gl.log2(total)


@gluon.jit
def observe_packed(q, lse, blocks, groups, packed, positions, out, layer, rows, heads, kv_heads, splits, size, scale, last,
                   D: gl.constexpr, BITS: gl.constexpr, STAGES: gl.constexpr, SHARE: gl.constexpr, PRUNED: gl.constexpr):
    """What the tokens of groups get of the attention of a block's rows; program (SPAN groups, KV head, block). See attention.observe:
    with last 0 that is SUM, otherwise LAST, and known is of groups; below 0, all that the first row sees. For groups and packed see
    attend_packed.attend_packed."""
    S: gl.constexpr = WARPS
    mma: gl.constexpr = gl.NVMMADistributedLayout(version=[2, 0], warps_per_cta=[S, 1, 1], instr_shape=[1, 16, 8])
    left: gl.constexpr = gl.DotOperandLayout(0, mma, 2)
    words: gl.constexpr = words_of(D, BITS)
    channels: gl.constexpr = channels_of(D)
    of_query: gl.constexpr = gl.SliceLayout(1, base_of(D))

    block = blocks + gl.program_id(2) * 6
    kv = gl.program_id(1)
    group = heads // kv_heads
    first = gl.load(block)
    count = gl.load(block + 1).to(gl.int32) * group
    from_ = gl.program_id(0) * SPAN
    to = gl.minimum(from_ + SPAN, gl.load(packed + first * kv_heads + kv))
    if from_ < to:
        begin, step, kept, filled, channels_at = place(groups + gl.program_id(2), layer, kv, kv_heads, size, D, BITS, PRUNED)
        x, _ = rows_of(gl.zeros([S, 16, 32], gl.float32, mma), S, 32)
        own: gl.constexpr = x.type.layout
        of_row: gl.constexpr = gl.SliceLayout(2, own)
        turned: gl.constexpr = gl.BlockedLayout([1, 8, 1], [1, 1, 32], [S, 1, 1], [1, 2, 0])  # all queries of a token
        of_token: gl.constexpr = gl.SliceLayout(1, turned)
        known = gl.load(block + 5)
        known = gl.where(known < 0, to, known)
        numbers = out + gl.load(block + 2) + layer * gl.load(block + 3) + kv * gl.load(block + 4)
        for i in range(0, count, 8):
            i += gl.arange(0, 8, of_query)
            have = i < count
            row = first + i // group
            at = row.to(gl.int64) * heads + kv * group + i % group
            asked, high, low, down = ask(q, at * D, have, scale, channels_at, kept, D, BITS, STAGES, SHARE, PRUNED)
            whole = gl.where(have, joined(lse, at, have, rows.to(gl.int64) * heads, splits, of_query), float("inf"))
            time = (gl.load(positions + row, mask=have, other=0) + 1).to(gl.float32)
            down = of_warps(down, of_row)[:, :, None]
            if PRUNED:
                down = down * stretch(BITS, -1, own)
            whole = of_warps(whole, of_row)[:, :, None]
            time = of_warps(time, gl.SliceLayout(2, turned))[:, :, None]
            for number in range(from_, to, S):
                g = begin + gl.minimum(number + axis(0, 5, S, words), to - 1).to(gl.int64) * step
                of = begin + gl.minimum(number + axis(0, 4, S, channels), to - 1).to(gl.int64) * step
                codes, scales, minima = keys_of(g, of, filled, D, BITS, PRUNED)
                mine = number + axis(0, 2, S, of_token)
                slot = numbers + (mine * 32 + axis(1, 2, 32, of_token))
                old = gl.load(slot, mask=(mine < known) & (mine < to), other=0.0)
                p = gl.exp2(scores(asked, scaled(high, low, scales, D, BITS, PRUNED, left), codes, minima, mma, D, BITS, PRUNED) * down - whole)
                p = p.reshape([S, 8, 4, 4, 2]).permute([0, 1, 3, 2, 4]).reshape([S, 8, 32])  # tokens in order
                p = gl.convert_layout(p, turned)
                if last == 0:
                    old += gl.sum(p, 1)
                else:
                    old = gl.maximum(old, gl.max(gl.where(p * time >= 1.0, time, 0.0), 1))
                gl.store(slot, old, mask=mine < to)
            known = to.to(gl.int64)  # by now
            gl.barrier()
