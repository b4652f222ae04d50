"""The exercise "translation/encode_decode": the parts of a translator are given, and the learner wires them.

Letters: B sentences, H heads, Nk source tokens, Nq target tokens, D model width, Dk width of a head, V words.
"""

import numpy as np

from crossattn_ref.checks.compare import Violation, insist, unmoved
from crossattn_ref.checks.draw import normal, sizes
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.modules import lengths, moved, real
from crossattn_ref.checks.tensors import TensorSubject, drawn_state
from crossattn_ref.checks.variants import encode_decode as wrong

N_LAYERS = 2
REACHED = (
    *(f"{name}.weight" for name in ("src_embedding", "tgt_embedding", "encoder_norm", "decoder_norm", "output")),
    *(f"encoder.{layer}.self_attention.v_proj.weight" for layer in range(N_LAYERS)),
    *(
        f"decoder.{layer}.{part}.weight"
        for layer in range(N_LAYERS)
        for part in ("cross_attention.k_proj", "feed_forward.inner")
    ),
    "positions",
)


def _case(rng, *, square=False):
    """Draw a translator, its weights and a batch: sizes that all differ, or that all agree -> config, state, args."""
    B, Nk, Nq, H, n_src = (4, 4, 4, 2, 9) if square else sizes(rng, 5, low=3, high=8)
    config = {"n_src": n_src + 3, "n_tgt": 13, "d_model": 4 * H, "n_heads": H, "n_layers": N_LAYERS, "n_positions": 12}
    state = drawn_state(wrong.Parts(**config), rng)
    args = {
        "src": rng.integers(0, config["n_src"], (B, Nk)),
        "src_mask": real(lengths(rng, B, Nk), Nk),
        "tgt": rng.integers(0, config["n_tgt"], (B, Nq)),
    }
    return config, state, args


def _run(ask, config, state, args):
    shape = (*args["tgt"].shape, config["n_tgt"])
    return insist(ask.forward(config, state, **args), shape, {**config, **args}, "tensor")


def _values(ask, rng):
    config, state, args = _case(rng)
    ask.forward_matches(config, state, **args)


def _no_padding(ask, rng):
    config, state, args = _case(rng)
    ask.forward_matches(config, state, **{**args, "src_mask": np.ones_like(args["src_mask"])})


def _square(ask, rng):
    ask.forward_matches(*(case := _case(rng, square=True))[:2], **case[2])


def _deleted(ask, rng):
    config, state, args = _case(rng)
    out = _run(ask, config, state, args)
    for b, seen in enumerate(args["src_mask"][:3, 0, 0]):
        n = int(seen.sum())
        alone = {name: array[b : b + 1] for name, array in args.items()}
        alone = {**alone, "src": alone["src"][:, :n], "src_mask": alone["src_mask"][..., :n]}
        why = f"sentence {b}, with a source of {n} tokens, gets other logits alone than in the padded batch"
        unmoved(out[b], _run(ask, config, state, alone)[0], why, {**config, **args})


def _varied(rng, args, name, n_words):
    """Lay one sentence many times into the batch, each time with another word changed."""
    n = args[name].shape[1]
    many = {key: np.repeat(array[:1], n + 1, axis=0) for key, array in args.items()}
    many["src_mask"][:] = True
    many[name][np.arange(n), np.arange(n)] = (many[name][0] + rng.integers(1, n_words, n)) % n_words
    return n, many


def _future(ask, rng):
    config, state, args = _case(rng)
    n, many = _varied(rng, args, "tgt", config["n_tgt"])
    out = _run(ask, config, state, many)
    case = {**config, **args}
    for place in range(n):
        moved(out[-1, place:], out[place, place:], f"tgt changes at place {place}, and it or a later one stays", case)
    for place in range(1, n):
        unmoved(out[-1, :place], out[place, :place], f"tgt changes at place {place}, and an earlier one notices", case)


def _whole_source(ask, rng):
    config, state, args = _case(rng)
    n, many = _varied(rng, args, "src", config["n_src"])
    out = _run(ask, config, state, many)
    for word in range(n):
        why = f"the source changes at word {word} of {n}, and some position of the target does not notice"
        moved(out[-1], out[word], why, {**config, **args})


def _gradients(ask, rng):
    config, state, args = _case(rng)
    grad_out = normal(rng, *args["tgt"].shape, config["n_tgt"])
    ask.gradients_match(config, state, grad_out, REACHED, **args)


def _empty_source(ask, rng):
    config, state, args = _case(rng)
    args["src_mask"][0] = False
    if not np.isfinite(_run(ask, config, state, args)).all():
        raise Violation("a source that is padding alone makes NaN or inf", {**config, **args})


EXERCISES = {
    "encode_decode": Exercise(
        reference=wrong.Translator,
        plain=wrong.Translator,
        local=TensorSubject,
        wanted="tensor",
        properties=(
            Property("right values for padded sources", 3, _values),
            Property("right values without padding", 1, _no_padding),
            Property("right values when source and target are equally long", 1, _square),
            Property("hiding the padding equals deleting it", 2, _deleted),
            Property("no position sees what comes later, every position sees what came before", 2, _future),
            Property("every position sees the whole source", 1, _whole_source),
            Property("a source of padding alone does no harm", 1, _empty_source),
            Property("gradients reach the embeddings, the places and all layers", 2, _gradients),
        ),
        misconceptions=wrong.MISTAKES,
        compositions=wrong.composed,
        alternatives=wrong.ALTERNATIVES,
    ),
}
