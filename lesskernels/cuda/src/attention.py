"""Attention over the slots of a KV head, split, and the merge of the splits with a LESS state."""
import triton
import triton.language as tl


@triton.jit
def attend(q, memory, tiles, places, live, out, lse, layer, rows, heads, kv_heads, span, scale,
           D: tl.constexpr, M: tl.constexpr, BS: tl.constexpr):
    """Softmax attention of one tile of queries of one KV head over one span of its slots; program
    (tile, KV head, split). A tile has M rows: the heads of the group, of one query after the other.

        q      [rows, heads, D] bf16
        memory [·, D] bf16
        tiles  [tiles, 2] i32: first row, and how many, at most M/group
        places [tiles, 4] i64: the rows of memory where the first key and the first value of layer 0, head 0
               lie, and how many rows further those of the next layer and of the next head do; those of one head
               follow one another
        live   [rows, kv_heads] i32: so many first slots the row sees
        out    [splits, rows, heads, D] f32, normalised within the span
        lse    [splits, rows, heads] f32, natural; -inf where the span is empty
    """
    tile = tl.program_id(0)
    kv = tl.program_id(1)
    split = tl.program_id(2)
    group = heads // kv_heads
    i = tl.arange(0, M)
    d = tl.arange(0, D)
    s = tl.arange(0, BS)
    row = tl.load(tiles + 2 * tile) + i // group
    have = i // group < tl.load(tiles + 2 * tile + 1)
    head = kv * group + i % group
    sees = tl.load(live + row * kv_heads + kv, mask=have, other=0)
    from_ = split * span
    to = tl.minimum(from_ + span, tl.max(sees, 0))
    sees = tl.minimum(sees, to)
    at = (row.to(tl.int64) * heads + head) * D
    query = tl.load(q + at[:, None] + d[None, :], mask=have[:, None], other=0.0)
    start = layer * tl.load(places + 4 * tile + 2) + kv * tl.load(places + 4 * tile + 3)
    keys = memory + (tl.load(places + 4 * tile) + start) * D
    values = memory + (tl.load(places + 4 * tile + 1) + start) * D
    peak = tl.full([M], float("-inf"), tl.float32)
    sum_ = tl.zeros([M], tl.float32)
    mix = tl.zeros([M, D], tl.float32)
    for first in range(from_, to, BS):
        slot = first + s
        inside = slot < to
        place = slot.to(tl.int64) * D
        key = tl.load(keys + place[:, None] + d[None, :], mask=inside[:, None], other=0.0)
        x = tl.dot(query, tl.trans(key)) * (scale * 1.4426950408889634)
        x = tl.where(slot[None, :] < sees[:, None], x, float("-inf"))
        higher = tl.maximum(peak, tl.max(x, 1))
        base = tl.where(higher == float("-inf"), 0.0, higher)
        shrink = tl.exp2(peak - base)
        p = tl.exp2(x - base[:, None])
        sum_ = sum_ * shrink + tl.sum(p, 1)
        value = tl.load(values + place[:, None] + d[None, :], mask=inside[:, None], other=0.0)
        mix = tl.dot(p.to(tl.bfloat16), value, mix * shrink[:, None])
        peak = higher
    some = sum_ > 0
    result = mix / tl.where(some, sum_, 1.0)[:, None]
    total = tl.where(some, (peak + tl.log2(sum_)) * 0.6931471805599453, float("-inf"))
    r = (split.to(tl.int64) * rows + row) * heads + head
    tl.store(lse + r, total, mask=have)
    tl.store(out + r[:, None] * D + d[None, :], result, mask=have[:, None])


@triton.jit
def merge(parts, lse, phi, states, state, gate, out, rows, heads, kv_heads, splits,
          D: tl.constexpr, R: tl.constexpr):
    """Joins the splits of one query head by their log-sum-exps (arXiv 2205.14135, flash-decoding), and with R > 0
    what its KV head has absorbed (arXiv 2402.09398, eq. 4); program (row, head).

        phi    [rows, heads, R] f32, φ(q)
        states f32, the memory of states, each H [R, D] and then Z [R]
        state  [rows, kv_heads] i64: where in states; below 0, nothing was absorbed
        gate   [kv_heads] f32, added to the log-sum-exp of a state
        out    [rows, heads, D] bf16
    """
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    d = tl.arange(0, D)
    peak = float("-inf")
    sum_ = 0.0
    mix = tl.zeros([D], tl.float32)
    for s in range(0, splits):
        r = (s.to(tl.int64) * rows + row) * heads + head
        x = tl.load(lse + r)
        higher = tl.maximum(peak, x)
        base = tl.where(higher == float("-inf"), 0.0, higher)
        shrink = tl.exp(peak - base)
        weight = tl.exp(x - base)
        sum_ = sum_ * shrink + weight
        mix = mix * shrink + tl.load(parts + r * D + d) * weight
        peak = higher
    if R > 0:
        kv = head // (heads // kv_heads)
        at = tl.load(state + row * kv_heads + kv)
        if at >= 0:
            j = tl.arange(0, R)
            f = tl.load(phi + (row * heads + head) * R + j)
            h = tl.load(states + at + j[:, None] * D + d[None, :])
            z = tl.load(states + at + R * D + j)
            norm = tl.maximum(tl.sum(f * z, 0), 1e-6)
            x = tl.log(norm) + tl.load(gate + kv)
            higher = tl.maximum(peak, x)
            shrink = tl.exp(peak - higher)
            weight = tl.exp(x - higher)
            sum_ = sum_ * shrink + weight
            mix = mix * shrink + tl.sum(f[:, None] * h, 0) * (weight / norm)
    tl.store(out + (row * heads + head) * D + d, (mix / tl.where(sum_ > 0, sum_, 1.0)).to(tl.bfloat16))
