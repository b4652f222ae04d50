"""Mistakes in a Triton kernel that reads keys tile after tile, and right ones written another way.

A kernel is text here, and a mistake replaces a piece of it; checks.interpreted runs it in another process.

Letters: Nq queries, Nk keys of a sample; WIDTH of each; BLOCK_Q queries and BLOCK_K keys of a tile.
"""

from crossattn_ref.checks.interpreted import launched
from crossattn_ref.checks.report import Misconception

SIGNATURE = """def kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lengths_ptr, n_queries, n_keys, scale,
    WIDTH: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):
"""

BODY = """
    tile, sample = tl.program_id(0), tl.program_id(1)
    row, column = tile * BLOCK_Q + tl.arange(0, BLOCK_Q), tl.arange(0, WIDTH)
    length = tl.load(lengths_ptr + sample)
    q_place = (sample * n_queries + row)[:, None] * WIDTH + column
    query = tl.load(q_ptr + q_place, mask=row[:, None] < n_queries, other=0.0)
    top = tl.full([BLOCK_Q], -float("inf"), tl.float32)
    total, summed = tl.zeros([BLOCK_Q], tl.float32), tl.zeros([BLOCK_Q, WIDTH], tl.float32)
    for start in range(0, length, BLOCK_K):
        key = start + tl.arange(0, BLOCK_K)
        place = (sample * n_keys + key)[:, None] * WIDTH + column
        keys = tl.load(k_ptr + place, mask=key[:, None] < length, other=0.0)
        values = tl.load(v_ptr + place, mask=key[:, None] < length, other=0.0)
        scores = tl.where(key < length, tl.dot(query, tl.trans(keys)) * scale, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        weights, rescale = tl.exp(scores - higher[:, None]), tl.exp(top - higher)
        total = total * rescale + tl.sum(weights, 1)
        summed = summed * rescale[:, None] + tl.dot(weights, values)
        top = higher
    out = summed / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(out_ptr + q_place, out, mask=row[:, None] < n_queries)
"""


class Kernel:
    """A kernel as text, that is launched when it is called."""

    def __init__(self, body: str, **pieces: str):
        for old, new in pieces.items():
            body = _with(body, PIECES[old], new)
        self.source = SIGNATURE + body.strip("\n") + "\n"

    def __call__(self, *args: object) -> tuple:
        """Launch it on (q, k, v, lengths, BLOCK_Q, BLOCK_K) -> (out, read, visits, largest, strays)."""
        return launched(self)(*args)


PIECES = {
    "length": "tl.load(lengths_ptr + sample)",
    "row": "tile * BLOCK_Q + tl.arange(0, BLOCK_Q)",
    "in_q": "q_ptr + q_place, mask=row[:, None] < n_queries, other=0.0",
    "in_out": ", mask=row[:, None] < n_queries)\n",
    "until": "range(0, length, BLOCK_K)",
    "key": "start + tl.arange(0, BLOCK_K)",
    "place": "(sample * n_keys + key)[:, None] * WIDTH + column",
    "in_k": "k_ptr + place, mask=key[:, None] < length, other=0.0",
    "in_v": "v_ptr + place, mask=key[:, None] < length, other=0.0",
    "hide": 'tl.where(key < length, tl.dot(query, tl.trans(keys)) * scale, -float("inf"))',
    "weigh": "tl.exp(scores - higher[:, None]), tl.exp(top - higher)",
    "total": "total * rescale + tl.sum(weights, 1)",
    "summed": "summed * rescale[:, None] + tl.dot(weights, values)",
    "top": "top = higher\n",
    "divide": "summed / tl.where(total == 0.0, 1.0, total)[:, None]",
}  # the pieces that mistakes replace


def _with(body, old, new):
    if old not in body:
        raise ValueError(f"the kernel must hold {old!r}")
    return body.replace(old, new)


right = Kernel(BODY)

_TAIL = "Seven keys in tiles of four: which places does the second tile touch, and whose are they?"
_RESCALE = "The largest score has grown. Under which one were the sums made that you kept?"
_PLACES = "In which row of the array does sample 2 begin, and how many rows does each sample take?"

_GUARDED = (
    'tl.exp(scores - tl.where(higher == -float("inf"), 0.0, higher)[:, None]), '
    'tl.exp(top - tl.where(higher == -float("inf"), 0.0, higher))'
)

ONE_AT_A_TIME = """
    tile, sample, column = tl.program_id(0), tl.program_id(1), tl.arange(0, WIDTH)
    length = tl.load(lengths_ptr + sample)
    for row in range(tile * BLOCK_Q, tl.minimum(tile * BLOCK_Q + BLOCK_Q, n_queries)):
        query = tl.load(q_ptr + (sample * n_queries + row) * WIDTH + column)
        top, total, summed = -float("inf"), 0.0, tl.zeros([WIDTH], tl.float32)
        for start in range(0, length, BLOCK_K):
            key = start + tl.arange(0, BLOCK_K)
            place = (sample * n_keys + key)[:, None] * WIDTH + column
            keys = tl.load(k_ptr + place, mask=key[:, None] < length, other=0.0)
            values = tl.load(v_ptr + place, mask=key[:, None] < length, other=0.0)
            scores = tl.where(key < length, tl.sum(keys * query[None, :], 1) * scale, -float("inf"))
            higher = tl.maximum(top, tl.max(scores, 0))
            weights, rescale = tl.exp(scores - higher), tl.exp(top - higher)
            total = total * rescale + tl.sum(weights, 0)
            summed = summed * rescale + tl.sum(weights[:, None] * values, 0)
            top = higher
        tl.store(out_ptr + (sample * n_queries + row) * WIDTH + column, summed / tl.where(total == 0.0, 1.0, total))
"""

MISTAKES = tuple(
    Misconception(name, wrong if isinstance(wrong, Kernel) else Kernel(BODY, **wrong), symptom, hint, *alike)
    for name, wrong, symptom, hint, *alike in (
        ("no scale", {"hide": 'tl.where(key < length, tl.dot(query, tl.trans(keys)), -float("inf"))'},
         "without the scale", "Tiles or not, which scores does attention put into the softmax?"),
        ("missing log2e", {"weigh": "tl.exp2(scores - higher[:, None]), tl.exp2(top - higher)"},
         "with powers of two for powers of e: log2(e) is missing",
         "A power of two is not a power of e. Which factor in the exponent makes one of the other?"),
        ("out-of-bounds reads", {"in_k": "k_ptr + place", "in_v": "v_ptr + place"},
         "when the last tile of keys is read without a mask", _TAIL),
        ("keys unmasked", {"in_k": "k_ptr + place"},
         "when the last tile of keys is read without a mask, and only its scores are hidden", _TAIL),
        ("queries unmasked", {"in_q": "q_ptr + q_place", "in_out": ")\n"},
         "when the last tile of queries is read and written without a mask",
         "Five queries in tiles of four: which rows does the second tile write, and whose are they?"),
        ("padding is looked at", {"hide": "tl.dot(query, tl.trans(keys)) * scale"},
         "when the last tile counts places that hold no key",
         "What is exp(0), and what should a place without a key count?"),
        ("length forgotten", {"length": "n_keys"}, "when padding is read like the rest",
         "How many keys has this sample, and who knows it?"),
        ("first sample's length", {"length": "tl.load(lengths_ptr)"}, "with the first sample's length for all",
         "Which entry of lengths belongs to this program?"),
        ("NaN from empty blocks", {"until": "range(0, n_keys, BLOCK_K)"},
         "when -inf is taken off -inf in a tile that holds no key",
         "What is the largest score of a tile without a key, and what is exp(-inf - -inf)?"),
        ("all tiles visited", {"until": "range(0, n_keys, BLOCK_K)", "weigh": _GUARDED},
         "when tiles behind the length are visited, and masked",
         "A sample has 3 keys of 64. How many tiles must be visited?"),
        ("last tile dropped", {"until": "range(0, length - BLOCK_K + 1, BLOCK_K)"},
         "when the last tile is left out where it is not full", "Seven keys in tiles of four: how many tiles?"),
        ("tiles overlap", {"row": "tile + tl.arange(0, BLOCK_Q)"}, "when tile 1 begins in row 1",
         "In which row does the second tile of four begin?"),
        ("start forgotten", {"key": "tl.arange(0, BLOCK_K)"}, "when every tile reads the first keys",
         "Which keys does the second tile hold?"),
        ("sample forgotten", {"place": "key[:, None] * WIDTH + column"},
         "when every sample reads the first one's memory", _PLACES),
        ("rows of the queries", {"place": "(sample * n_queries + key)[:, None] * WIDTH + column"},
         "when a sample's keys are looked for where its queries lie", _PLACES),
        ("0/0", {"divide": "summed / total[:, None]"}, "when 0 is divided by 0 for a sample that has no key",
         "What is the total of a query that has met no key?"),
        ("never divided", {"divide": "summed"}, "when the sum of the values is never divided by the total",
         "An average is a sum divided by what?"),
        ("total not rescaled", {"total": "total + tl.sum(weights, 1)"}, "with the total not rescaled", _RESCALE),
        ("missing rescale of the accumulator", {"summed": "summed + tl.dot(weights, values)"},
         "with the weighted values not rescaled", _RESCALE),
        ("largest never kept", {"top": "top = top\n"}, "when the largest score so far is not kept",
         "Under which largest score were the sums made that the next tile finds?"),
        ("one query at a time", Kernel(ONE_AT_A_TIME), "when every query of a tile reads all keys once more",
         "Four queries stand beside each other. How often must a tile of keys be fetched for them?"),
        ("all keys at once", {"until": "range(0, 1)", "key": "tl.arange(0, 64)"},
         "when all keys are loaded at once",
         "Beside the processor there is room for a tile. Whose size says how much?"),
    )
)  # fmt: skip

ALTERNATIVES = (
    Kernel(BODY, weigh="tl.exp2((scores - higher[:, None]) * 1.44269504), tl.exp2((top - higher) * 1.44269504)"),
    Kernel(
        BODY,
        hide='tl.where(key < length, tl.sum(query[:, None, :] * keys[None, :, :], 2) * scale, -float("inf"))',
        summed="summed * rescale[:, None] + tl.sum(weights[:, :, None] * values[None, :, :], 1)",
    ),
    Kernel('''
    tile, sample = tl.program_id(0), tl.program_id(1)
    length = tl.load(lengths_ptr + sample)
    q_block = tl.make_block_ptr(q_ptr + sample * n_queries * WIDTH, (n_queries, WIDTH), (WIDTH, 1), (tile * BLOCK_Q, 0),
                                (BLOCK_Q, WIDTH), (1, 0))
    out_block = tl.make_block_ptr(out_ptr + sample * n_queries * WIDTH, (n_queries, WIDTH), (WIDTH, 1),
                                  (tile * BLOCK_Q, 0), (BLOCK_Q, WIDTH), (1, 0))
    query = tl.load(q_block, boundary_check=(0,), padding_option="zero")
    top = tl.full([BLOCK_Q], -1e30, tl.float32)
    total, summed = tl.zeros([BLOCK_Q], tl.float32), tl.zeros([BLOCK_Q, WIDTH], tl.float32)
    for start in range(0, length, BLOCK_K):
        k_block = tl.make_block_ptr(k_ptr + sample * n_keys * WIDTH, (length, WIDTH), (WIDTH, 1), (start, 0),
                                    (BLOCK_K, WIDTH), (1, 0))
        v_block = tl.make_block_ptr(v_ptr + sample * n_keys * WIDTH, (length, WIDTH), (WIDTH, 1), (start, 0),
                                    (BLOCK_K, WIDTH), (1, 0))
        keys = tl.load(k_block, boundary_check=(0,), padding_option="zero")
        scores = tl.dot(query, tl.trans(keys)) * scale
        scores = tl.where(start + tl.arange(0, BLOCK_K)[None, :] < length, scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp(scores - higher[:, None])
        total = total * tl.exp(top - higher) + tl.sum(weights, 1)
        values = tl.load(v_block, boundary_check=(0,), padding_option="zero")
        summed = summed * tl.exp(top - higher)[:, None] + tl.dot(weights, values)
        top = higher
    tl.store(out_block, summed / tl.maximum(total, 1e-30)[:, None], boundary_check=(0,))
'''),
)  # fmt: skip
