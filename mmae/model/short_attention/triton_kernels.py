"""The two kernels: a program for each sequence and head holds all of its queries, keys and values at once.

Scores and weights never reach memory. No sums of a softmax are kept for the backward pass either: a program that holds
all keys of a query computes its weights again from what it has to read anyway. Queries, keys and values are read where
a projection left them, and gradients are written where its backward pass reads them, so that nothing is packed.

A head's columns are held as one or two blocks whose widths are powers of 2, as Triton wants them: 80 as 64 and 16.
This module imports triton, and is imported only where the kernels run or are compiled. A profile shows the kernels by
their functions' names.
"""

from __future__ import annotations

from typing import Final

import triton
import triton.language as tl


@triton.jit
def _product(left, right, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    if WIDEN:
        return tl.dot(left.to(tl.float32), right.to(tl.float32))
    return tl.dot(left, right, input_precision=PRECISION)


@triton.jit
def _block(start, rows, length, stride, first, COLUMNS: tl.constexpr, WIDTH: tl.constexpr):
    """Addresses of COLUMNS columns from `first` on, and which of them exist: both (rows, COLUMNS)."""
    columns = first + tl.arange(0, COLUMNS)
    return start + rows[:, None] * stride + columns[None, :], (rows[:, None] < length) & (columns[None, :] < WIDTH)


@triton.jit
def _read(start, rows, length, stride, first, COLUMNS: tl.constexpr, WIDTH: tl.constexpr):
    places, exists = _block(start, rows, length, stride, first, COLUMNS, WIDTH)
    return tl.load(places, mask=exists, other=0.0)


@triton.jit
def _write(values, start, rows, length, stride, first, COLUMNS: tl.constexpr, WIDTH: tl.constexpr):
    places, exists = _block(start, rows, length, stride, first, COLUMNS, WIDTH)
    tl.store(places, values.to(start.dtype.element_ty), mask=exists)


@triton.jit
def _weights(scores, columns, keys, scale):
    """Softmax over the keys that exist. In rows without a query all scores are 0, and the weights are finite."""
    # The hardware has powers of 2.
    scores = tl.where(columns[None, :] < keys, scores * (scale * 1.4426950408889634), float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@triton.jit
def short_attention_forward(
    q, k, v, out, scale, queries, keys, heads,
    q_sequence, q_row, k_sequence, k_row, v_sequence, v_row, out_sequence, out_row,
    WIDTH: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr,
    QUERY_ROWS: tl.constexpr, KEY_ROWS: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """softmax(q k' scale) v of one sequence and head.

    Args:
        queries: rows of q and out that exist, at most QUERY_ROWS; `keys`: of k and v, at most KEY_ROWS.
        q_sequence: numbers from a sequence to the next; `q_row`: from a row to the next. Heads lie side by side.
        WIDTH: columns of a head that exist, of FIRST + REST.
        PRECISION: of products of float32.
        WIDEN: multiply as float32: Triton's interpreter takes a bfloat16 for the integer of its bits.
    """
    program = tl.program_id(0)
    sequence, column = (program // heads).to(tl.int64), (program % heads) * WIDTH
    q += sequence * q_sequence + column
    k += sequence * k_sequence + column
    v += sequence * v_sequence + column
    out += sequence * out_sequence + column
    query_rows, key_rows = tl.arange(0, QUERY_ROWS), tl.arange(0, KEY_ROWS)

    q_0 = _read(q, query_rows, queries, q_row, 0, FIRST, WIDTH)
    k_0 = _read(k, key_rows, keys, k_row, 0, FIRST, WIDTH)
    scores = _product(q_0, tl.trans(k_0), PRECISION, WIDEN)
    if REST > 0:
        q_1 = _read(q, query_rows, queries, q_row, FIRST, REST, WIDTH)
        k_1 = _read(k, key_rows, keys, k_row, FIRST, REST, WIDTH)
        scores += _product(q_1, tl.trans(k_1), PRECISION, WIDEN)
    v_0 = _read(v, key_rows, keys, v_row, 0, FIRST, WIDTH)
    weights = _weights(scores, key_rows, keys, scale).to(v_0.dtype)
    _write(_product(weights, v_0, PRECISION, WIDEN), out, query_rows, queries, out_row, 0, FIRST, WIDTH)
    if REST > 0:
        v_1 = _read(v, key_rows, keys, v_row, FIRST, REST, WIDTH)
        _write(_product(weights, v_1, PRECISION, WIDEN), out, query_rows, queries, out_row, FIRST, REST, WIDTH)


@triton.jit
def short_attention_backward(
    q, k, v, dout, dq, dk, dv, scale, queries, keys, heads,
    q_sequence, q_row, k_sequence, k_row, v_sequence, v_row, dout_sequence, dout_row,
    dq_sequence, dq_row, dk_sequence, dk_row, dv_sequence, dv_row,
    WIDTH: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr,
    QUERY_ROWS: tl.constexpr, KEY_ROWS: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Gradients dq, dk and dv of one sequence and head from that of the result, `dout`; else as the forward one."""
    program = tl.program_id(0)
    sequence, column = (program // heads).to(tl.int64), (program % heads) * WIDTH
    q += sequence * q_sequence + column
    k += sequence * k_sequence + column
    v += sequence * v_sequence + column
    dout += sequence * dout_sequence + column
    dq += sequence * dq_sequence + column
    dk += sequence * dk_sequence + column
    dv += sequence * dv_sequence + column
    query_rows, key_rows = tl.arange(0, QUERY_ROWS), tl.arange(0, KEY_ROWS)

    q_0 = _read(q, query_rows, queries, q_row, 0, FIRST, WIDTH)
    k_0 = _read(k, key_rows, keys, k_row, 0, FIRST, WIDTH)
    scores = _product(q_0, tl.trans(k_0), PRECISION, WIDEN)
    if REST > 0:
        q_1 = _read(q, query_rows, queries, q_row, FIRST, REST, WIDTH)
        k_1 = _read(k, key_rows, keys, k_row, FIRST, REST, WIDTH)
        scores += _product(q_1, tl.trans(k_1), PRECISION, WIDEN)
    weights = _weights(scores, key_rows, keys, scale)

    v_0 = _read(v, key_rows, keys, v_row, 0, FIRST, WIDTH)
    dout_0 = _read(dout, query_rows, queries, dout_row, 0, FIRST, WIDTH)
    turned = tl.trans(weights.to(dout_0.dtype))
    _write(_product(turned, dout_0, PRECISION, WIDEN), dv, key_rows, keys, dv_row, 0, FIRST, WIDTH)
    dweights = _product(dout_0, tl.trans(v_0), PRECISION, WIDEN)
    if REST > 0:
        v_1 = _read(v, key_rows, keys, v_row, FIRST, REST, WIDTH)
        dout_1 = _read(dout, query_rows, queries, dout_row, FIRST, REST, WIDTH)
        _write(_product(turned, dout_1, PRECISION, WIDEN), dv, key_rows, keys, dv_row, FIRST, REST, WIDTH)
        dweights += _product(dout_1, tl.trans(v_1), PRECISION, WIDEN)

    dscores = (weights * (dweights - tl.sum(weights * dweights, 1)[:, None]) * scale).to(q_0.dtype)
    _write(_product(dscores, k_0, PRECISION, WIDEN), dq, query_rows, queries, dq_row, 0, FIRST, WIDTH)
    if REST > 0:
        _write(_product(dscores, k_1, PRECISION, WIDEN), dq, query_rows, queries, dq_row, FIRST, REST, WIDTH)
    turned = tl.trans(dscores)
    _write(_product(turned, q_0, PRECISION, WIDEN), dk, key_rows, keys, dk_row, 0, FIRST, WIDTH)
    if REST > 0:
        _write(_product(turned, q_1, PRECISION, WIDEN), dk, key_rows, keys, dk_row, FIRST, REST, WIDTH)


INTERPRETED: Final = not isinstance(short_attention_forward, triton.JITFunction)
"""Whether TRITON_INTERPRET was set when triton was imported: the kernels then run on the CPU, slowly."""
