"""Mistakes in pairing words with pictures and in gating what is read, and right answers computed another way.

Letters: B texts, Nq words, M images in a text, L latents of an image, Nk rows of media, D width of text, F inner width.
"""

import numpy as np

from crossattn_ref.attention import reference
from crossattn_ref.checks.variants.masks import NUMBER, kept
from crossattn_ref.checks.variants.stages import flat, pairs, staged


def _images_so_far(is_image):
    return np.cumsum(is_image, axis=1)


def _of_the_last(so_far, image):
    return so_far[..., None] == image


def _in_blocks(n_images, n_latents):
    """Number the image of every latent: 1 1 1 2 2 2 ..."""
    return np.repeat(np.arange(1, n_images + 1), n_latents)


def _one_axis_for_heads(mask):
    return mask[:, None]


def mask(
    is_image, n_images, n_latents, *, count=_images_so_far, lay=_in_blocks, look=_of_the_last, number=kept,
    shape=_one_axis_for_heads,
):  # fmt: skip
    """Say which latents each word may look at, with any stage replaced; as it stands, the right one."""
    return shape(number(look(count(is_image), lay(n_images, n_latents))))


def _strictly_before(is_image):
    return np.cumsum(is_image, axis=1) - is_image


def _across_the_batch(is_image):
    return np.cumsum(is_image.ravel()).reshape(is_image.shape)


def _first_for_none(so_far, image):
    return np.maximum(so_far, 1)[..., None] == image


def _all_for_none(so_far, image):
    return (so_far[..., None] == image) | (so_far == 0)[..., None]


def _nearest(is_image):
    """Count, for each word, the image that is nearest; of two as near, the one before."""
    total = np.cumsum(is_image, axis=1)
    out = total.copy()
    for b, row in enumerate(is_image):
        places = np.flatnonzero(row)
        for i in range(len(row)):
            out[b, i] = int(np.argmin(abs(places - i))) + 1 if len(places) else 0
    return out


MASK_STAGES = staged(
    mask,
    count=(
        ("not in its own place", _strictly_before, "when an image's own place does not see it yet",
         '"Before it, or in its own place": what does the place of the image see?'),
        ("next image", lambda is_image: np.cumsum(is_image, axis=1) + 1, "when a word sees the image that comes next",
         "Which image came before this word?"),
        ("counted through the batch", _across_the_batch, "when images are counted on from text to text",
         "Change the first text: may the second one's mask move?"),
        ("counted down the batch", lambda is_image: np.cumsum(is_image, axis=0),
         "when images are counted along the texts, not along the words", "Which axis of is_image counts the words?"),
        ("counted from the end", lambda is_image: np.cumsum(is_image[:, ::-1], axis=1)[:, ::-1],
         "when images are counted from the end", "Which image came before this word?"),
        ("nearest image", _nearest, "when a word sees the nearest image, even one that comes later",
         "Which image came before this word?"),
        ("images only", lambda is_image: np.cumsum(is_image, axis=1) * is_image,
         "when only the images' own places see anything", "What may the words behind an image see?"),
    ),
    lay=(
        ("interleaved", lambda m, n: np.tile(np.arange(1, m + 1), n),
         "with the latents of all images taken in turns: 1 2 3 1 2 3",
         "The latents of one image follow each other. Whose is the second latent?"),
        ("one latent for each image", lambda m, n: np.arange(1, m + 1),
         "with one column for each image, not for each latent", "How many latents has an image?"),
        ("counts swapped", lambda m, n: np.repeat(np.arange(1, n + 1), m),
         "with as many images as an image has latents, and as many latents as there are images",
         "n_images, n_latents: which of them is the length of a block?"),
        ("counted from zero", lambda m, n: np.repeat(np.arange(m), n), "with the first image counted as number 0",
         "How many images has a word before it that stands behind the first one?", "next image"),
        ("blocks reversed", lambda m, n: _in_blocks(m, n)[::-1], "with the last image in the first columns",
         "Whose are the first columns?"),
    ),
    look=(
        ("all before", lambda so_far, image: image <= so_far[..., None], "when a word sees every image before it",
         "Two images, then a word: which of them does it see?"),
        ("all after", lambda so_far, image: image >= so_far[..., None], "when a word sees the images that come later",
         "Which image came before this word?"),
        ("everything", lambda so_far, image: np.ones((*so_far.shape, len(image)), bool),
         "when every word sees every image", "Change a later image: may an earlier word notice?"),
        ("first image for none", _first_for_none, "when a word before every image sees the first one",
         "No image yet: what is there to see?"),
        ("all images for none", _all_for_none, "when a word before every image sees all of them",
         "No image yet: what is there to see?"),
        ("turned round", lambda so_far, image: so_far[..., None] != image, "with True for what may not be seen",
         "In this course, does True mean look or do not look?"),
    ),
    number=NUMBER,
    shape=(
        ("no axis for the heads", kept, "without the axis for the heads",
         "How many axes have the scores, (B, H, Nq, Nk)?"),
        ("heads last", lambda m: m[..., None], "with the axis for the heads at the end",
         "Which axis of (B, H, Nq, Nk) counts the heads?"),
        ("transposed", lambda m: m.swapaxes(1, 2)[:, None], "with words as columns and latents as rows",
         "Rows are queries. Who asks, the words or the latents?"),
        ("first text only", lambda m: m[:1, None], "with the first text's mask for all",
         "Do all texts have their images in the same places?"),
    ),
)  # fmt: skip
MASK = flat(MASK_STAGES)


def mask_composed():
    """Make the mistakes that two stages make together."""
    return pairs(mask, MASK_STAGES)


def _word_by_word(is_image, n_images, n_latents):
    out = np.zeros((len(is_image), 1, is_image.shape[1], n_images * n_latents), dtype=bool)
    for b, text in enumerate(is_image):
        current = -1
        for i, image in enumerate(text):
            current += int(image)
            if current >= 0:
                out[b, 0, i, current * n_latents : (current + 1) * n_latents] = True
    return out


def _by_one_hot(is_image, n_images, n_latents):
    seen = np.eye(n_images + 1, dtype=bool)[is_image.cumsum(1)][..., 1:]
    return np.repeat(seen, n_latents, axis=-1)[:, np.newaxis]


def _by_division(is_image, n_images, n_latents):
    column = np.arange(n_images * n_latents)
    return (np.add.accumulate(is_image.astype(int), axis=1)[:, None, :, None] - 1) == column // n_latents


MASK_ALTERNATIVES = (_word_by_word, _by_one_hot, _by_division)


# What is read, let in through a gate.


def _by_tanh(gate):
    return np.tanh(gate)


def _own_gates(gates):
    return gates[0], gates[1]


def _let_in(x, found, gate):
    return x + gate * found


def _from_the_memory(x, memory):
    return x, memory


def _in_turn(x, read, think):
    return think(read(x))


def attend(q, k, v, mask=None):
    """Attention in the dtype of its inputs; zeros for a query that may look at nothing."""
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(np.asarray(q.shape[-1], q.dtype))
    seen = np.ones(scores.shape, bool) if mask is None else np.broadcast_to(mask, scores.shape)
    top = np.where(seen, scores, -np.inf).max(-1, keepdims=True)
    exp = np.where(seen, np.exp(np.where(seen, scores - np.where(np.isfinite(top), top, 0), 0)), 0).astype(q.dtype)
    total = exp.sum(-1, keepdims=True)
    return exp / np.where(total, total, 1) @ v


def gated(
    x, memory, mask, w_query, w_key, w_value, w_inner, w_outer, gates, *, squash=_by_tanh, share=_own_gates,
    around_reading=_let_in, around_thinking=_let_in, wire=_from_the_memory, line=_in_turn, hide=kept,
):  # fmt: skip
    """A gated layer with any stage replaced; as it stands, the right one."""
    first, second = (squash(gate) for gate in share(gates))

    def read(h):
        asking, asked = wire(h, memory)
        seen = hide(mask) if asked is memory else None
        return around_reading(h, attend(asking @ w_query, asked @ w_key, asked @ w_value, seen), first)

    def think(h):
        return around_thinking(h, np.maximum(h @ w_inner, 0) @ w_outer, second)

    return line(x, read, think)


AROUND = (
    ("no residual", lambda x, found, gate: gate * found, "without the residual {place}",
     "Shut both gates. Is x still there?"),
    ("no gate", lambda x, found, gate: x + found, "without the gate {place}",
     "Shut both gates. Is x still what it was?"),
    ("gate around the sum", lambda x, found, gate: gate * (x + found),
     "with the gate {place} on the sum, not on what is new",
     "Shut both gates. Is x still there?"),
    ("x through the gate, too", lambda x, found, gate: (1 - gate) * x + gate * found,
     "when the gate {place} mixes x and what is new, so that opening it shuts x out",
     "Open the gate wide. Is x still there?"),
    ("gate turned round", lambda x, found, gate: x + (1 - gate) * found, "when the gate {place} is open at 0",
     "Shut both gates. Is x still what it was?"),
)  # fmt: skip


def _around(place):
    return tuple((f"{name} {place}", wrong, symptom.format(place=place), hint) for name, wrong, symptom, hint in AROUND)


GATED_STAGES = staged(
    gated,
    squash=(
        ("gate not squashed", kept, "with the gates as they are, without tanh", "How far can a gate open at most?"),
        ("sigmoid", lambda gate: 1 / (1 + np.exp(-gate)), "with a sigmoid in the place of tanh",
         "What does a gate let through that is 0?"),
        ("gate cut at 0 and 1", lambda gate: np.clip(gate, 0, 1), "with gates cut off at 0 and 1",
         "May a gate be negative?"),
        ("size of the gate", lambda gate: np.abs(np.tanh(gate)), "without the gates' signs", "May a gate be negative?"),
        ("tanh twice", lambda gate: np.tanh(np.tanh(gate)), "with tanh taken twice", "How often is a gate squashed?"),
    ),
    share=(
        ("first gate twice", lambda gates: (gates[0], gates[0]), "with one gate in both places",
         "Which of the gates has no work?"),
        ("second gate twice", lambda gates: (gates[1], gates[1]), "with the second gate in both places",
         "Which of the gates has no work?"),
        ("gates swapped", lambda gates: (gates[1], gates[0]), "with the gates in each other's places",
         "Which gate belongs to what is read?"),
    ),
    around_reading=_around("around the attention"),
    around_thinking=_around("around the feed-forward"),
    wire=(
        ("text reads itself", lambda x, memory: (x, x), "when keys and values come from the text",
         "Change the picture: does the text notice?"),
    ),
    line=(
        ("side by side", lambda x, read, think: read(x) + think(x) - x,
         "when the feed-forward thinks about x, not about what was read",
         "Change the picture: does what goes into the feed-forward change?"),
        ("feed-forward first", lambda x, read, think: read(think(x)), "with the feed-forward before the attention",
         "Which comes first, reading or thinking about what was read?"),
        ("no feed-forward", lambda x, read, think: read(x), "without the feed-forward",
         "Which of the matrices has no work?"),
        ("no attention", lambda x, read, think: think(x), "without the attention",
         "Which of the matrices has no work?"),
    ),
    hide=(
        ("mask ignored", lambda mask: None, "without the mask", "No image yet: what is there to see?"),
        ("mask turned round", lambda mask: ~mask, "with the mask turned round",
         "In this course, does True mean look or do not look?"),
        ("nothing to see, so everything", lambda mask: mask | ~mask.any(axis=-1, keepdims=True),
         "when a word that may look at nothing looks at everything", "No image yet: what is there to see?"),
    ),
)  # fmt: skip
GATED = flat(GATED_STAGES)


def gated_composed():
    """Make the mistakes that two stages make together: the most frequent stages only."""
    return pairs(gated, {name: GATED_STAGES[name] for name in ("squash", "share", "line", "hide")})


def right(x, memory, mask, w_query, w_key, w_value, w_inner, w_outer, gates):
    """A gated layer, by the definition of attention."""
    x = x + np.tanh(gates[0]) * reference.attention(x @ w_query, memory @ w_key, memory @ w_value, mask)
    return x + np.tanh(gates[1]) * np.maximum(x @ w_inner, 0) @ w_outer


def _text_by_text(x, memory, mask, w_query, w_key, w_value, w_inner, w_outer, gates):
    out = []
    for text, media, seen in zip(x, memory, mask, strict=True):
        read = attend(text @ w_query, media @ w_key, media @ w_value, seen)
        h = text + (1 - 2 / (np.exp(2 * gates[0]) + 1)) * read
        out.append(h + np.tanh(gates)[1] * (np.where(h @ w_inner > 0, h @ w_inner, 0) @ w_outer))
    return np.array(out)


def _gate_in_the_weights(x, memory, mask, w_query, w_key, w_value, w_inner, w_outer, gates):
    a, b = np.tanh(gates)
    h = attend(x @ w_query, memory @ w_key, memory @ (a * w_value), mask) + x
    return np.add(h, (h @ w_inner).clip(min=0) @ (w_outer * b))


def _in_float32(*args):
    return gated(*(arg.astype(np.float32) if arg.dtype == np.float64 else arg for arg in args))


GATED_ALTERNATIVES = (gated, _text_by_text, _gate_in_the_weights, _in_float32)
