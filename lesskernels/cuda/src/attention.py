"""Attention over the slots of a KV head, split, and the merge of the splits with a LESS state."""
import triton
import triton.language as tl


@triton.jit
def start_of(place, layer, kv, kv_heads):
    """How many rows of memory after a place's first those of a KV head begin. place [4] i64: the rows of memory where the first
    key and the first value of layer 0, head 0 lie, and how many rows further those of the next layer and of the next head do;
    or, the third below 0, how many rows further all heads' begin stands in a table [layers, kv_heads] i64 at the address that is the
    fourth. Those of one head follow one another."""
    step = tl.load(place + 2)
    further = tl.load(place + 3)
    start = layer * step + kv * further
    if step < 0:
        start = tl.load(further.to(tl.pointer_type(tl.int64)) + layer * kv_heads + kv)
    return start


@triton.jit
def attend(q, memory, tiles, places, live, out, lse, layer, rows, heads, kv_heads, span, scale,
           D: tl.constexpr, M: tl.constexpr, BS: tl.constexpr):
    """Softmax attention of one tile of queries of one KV head over one span of its slots; program
    (tile, KV head, split). A tile has M rows: the heads of the group, of one query after the other.

        q      [rows, heads, D] bf16
        memory [·, D] bf16
        tiles  [tiles, 2] i32: first row, and how many, at most M/group
        places [tiles, 4] i64: see start_of
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
    start = start_of(places + 4 * tile, layer, kv, kv_heads)
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
def merge(parts, lse, list, phi, states, asked, positions, rates, out, layer, rows, heads, kv_heads, splits, rank,
          D: tl.constexpr, R: tl.constexpr):
    """Joins the splits of one query head by their log-sum-exps (arXiv 2205.14135, flash-decoding), and with R > 0
    what its KV head has absorbed (arXiv 2402.09398, eq. 4), faded from the state's clock to the row's position; program
    (row of the list, head).

        list      [·] i32: rows
        phi       [rows, heads, rank] f32, φ(q); rank is at most R
        states    f32, the tables of sequences and their states: see less.absorb
        asked     [rows] i64: where in states the table of the row's sequence is; below 0, it is not asked
        positions [rows] i32
        rates     [kv_heads, rank] f32
        out       [rows, heads, D] bf16
    """
    row = tl.load(list + tl.program_id(0)).to(tl.int64)
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
        table = tl.load(asked + row)
        if table >= 0:
            kv = head // (heads // kv_heads)
            at = states + table + (layer * kv_heads + kv) * 2
            further = tl.load(at).to(tl.int32, bitcast=True)
            if further >= 0:
                j = tl.arange(0, R)
                real = j < rank
                f = tl.load(phi + (row * heads + head) * rank + j, mask=real, other=0.0)
                clock = tl.load(states + table + further + rank * D + rank).to(tl.int32, bitcast=True)
                age = (tl.load(positions + row) - clock).to(tl.float32)
                f = f * tl.exp(-age * tl.load(rates + kv * rank + j, mask=real, other=0.0))
                h = tl.load(states + table + further + j[:, None] * D + d[None, :], mask=real[:, None], other=0.0)
                z = tl.load(states + table + further + rank * D + j, mask=real, other=0.0)
                norm = tl.maximum(tl.sum(f * z, 0), 1e-6)
                x = tl.log(norm) + tl.load(at + 1)
                higher = tl.maximum(peak, x)
                shrink = tl.exp(peak - higher)
                weight = tl.exp(x - higher)
                sum_ = sum_ * shrink + weight
                mix = mix * shrink + tl.sum(f[:, None] * h, 0) * (weight / norm)
    tl.store(out + (row * heads + head) * D + d, (mix / tl.where(sum_ > 0, sum_, 1.0)).to(tl.bfloat16))


@triton.jit
def joined(lse, row, head, have, rows, heads, splits, M: tl.constexpr):
    """The log-sum-exps of M rows and heads over all that the splits hold, to the base 2."""
    peak = tl.full([M], float("-inf"), tl.float32)
    sum_ = tl.zeros([M], tl.float32)
    for s in range(0, splits):
        x = tl.load(lse + (s.to(tl.int64) * rows + row) * heads + head, mask=have, other=0.0)
        higher = tl.maximum(peak, x)
        base = tl.where(higher == float("-inf"), 0.0, higher)
        sum_ = sum_ * tl.exp(peak - base) + tl.exp(x - base)
        peak = higher
    return peak * 1.4426950408889634 + tl.log2(sum_)


@triton.jit
def shares(q, lse, live, key, slot, row, head, have, kv, rows, heads, kv_heads, splits, scale,
           D: tl.constexpr, M: tl.constexpr):
    """What M rows and heads of the batch give of their attention to slots of which key [·, D] are the keys: softmax weights over
    all that the splits hold."""
    d = tl.arange(0, D)
    sees = tl.load(live + row * kv_heads + kv, mask=have, other=0)
    query = tl.load(q + ((row * heads + head) * D)[:, None] + d[None, :], mask=have[:, None], other=0.0)
    whole = joined(lse, row, head, have, rows, heads, splits, M)
    x = tl.dot(query, tl.trans(key)) * (scale * 1.4426950408889634) - whole[:, None]
    return tl.where(slot[None, :] < sees[:, None], tl.exp2(x), 0.0)


SUM, MOST, DECAYED, LAST = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)


@triton.jit
def observe(q, memory, lse, blocks, places, live, positions, out, layer, rows, heads, kv_heads, splits, scale, rise,
            D: tl.constexpr, M: tl.constexpr, BS: tl.constexpr, KIND: tl.constexpr):
    """What slots of one KV head get of the attention of a block's rows; program (BS slots, KV head, block). SUM: added up over
    rows and the heads of the group; M is at least the group. MOST: of each head the most that a row gives. DECAYED: added up
    over rows, which weigh more the later they come, the most of the heads (arXiv 2406.17808). LAST: the last step t, a row's position
    and one more, at which a row gave at least 1/t, 0 where none did (arXiv 2404.15949).

        q, memory, places, live and lse are those of attend
        blocks    [blocks, 6] i64: first row, and how many; where in out the numbers of layer 0, head 0 begin, and how much further
                  those of the next layer and of the next head do; and so many first slots have numbers already, which those that
                  come are joined with; below 0, so many fewer than the first row sees
        positions [rows] i32
        rise      by how much the logarithm of a row's weight grows with its position
        out       f32, a number for each slot, MOST for each slot and head of the group
    """
    block = blocks + tl.program_id(2) * 6
    kv = tl.program_id(1)
    group = heads // kv_heads
    slot = tl.program_id(0) * BS + tl.arange(0, BS)
    d = tl.arange(0, D)
    first = tl.load(block)
    count = tl.load(block + 1).to(tl.int32)
    to = tl.load(live + (first + count - 1) * kv_heads + kv)
    if tl.program_id(0) * BS < to:
        inside = slot < to
        place = places + 4 * tl.program_id(2)
        start = tl.load(place) + start_of(place, layer, kv, kv_heads)
        key = tl.load(memory + (start + slot)[:, None] * D + d[None, :], mask=inside[:, None], other=0.0)
        known = tl.load(block + 5)
        known = tl.where(known < 0, known + tl.load(live + first * kv_heads + kv), known)
        numbers = out + tl.load(block + 2) + layer * tl.load(block + 3) + kv * tl.load(block + 4)
        total = tl.zeros([BS], tl.float32)
        if KIND == SUM:
            for from_ in range(0, count * group, M):
                i = from_ + tl.arange(0, M)
                p = shares(q, lse, live, key, slot, first + i // group, kv * group + i % group, i < count * group, kv,
                           rows, heads, kv_heads, splits, scale, D, M)
                total += tl.sum(p, 0)
        elif KIND == LAST:
            for from_ in range(0, count * group, M):
                i = from_ + tl.arange(0, M)
                have = i < count * group
                p = shares(q, lse, live, key, slot, first + i // group, kv * group + i % group, have, kv,
                           rows, heads, kv_heads, splits, scale, D, M)
                step = (tl.load(positions + first + i // group, mask=have, other=0) + 1).to(tl.float32)[:, None]
                total = tl.maximum(total, tl.max(tl.where(p * step >= 1.0, step, 0.0), 0))
        else:
            for g in range(0, group):
                of_head = tl.zeros([BS], tl.float32)
                for from_ in range(0, count, M):
                    i = from_ + tl.arange(0, M)
                    p = shares(q, lse, live, key, slot, first + i, kv * group + g, i < count, kv,
                               rows, heads, kv_heads, splits, scale, D, M)
                    if KIND == MOST:
                        of_head = tl.maximum(of_head, tl.max(p, 0))
                    else:
                        position = tl.load(positions + first + i, mask=i < count, other=0).to(tl.float32)
                        of_head += tl.sum(p * tl.exp(position * rise)[:, None], 0)
                if KIND == MOST:
                    at = numbers + slot * group + g
                    old = tl.load(at, mask=slot < known, other=0.0)
                    tl.store(at, tl.maximum(old, of_head), mask=inside)
                else:
                    total = tl.maximum(total, of_head)
        if KIND != MOST:
            old = tl.load(numbers + slot, mask=slot < known, other=0.0)
            tl.store(numbers + slot, tl.maximum(old, total) if KIND == LAST else old + total, mask=inside)
