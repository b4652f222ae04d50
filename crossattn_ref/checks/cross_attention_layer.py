"""The exercise "cross-attention/CrossAttention": the layer that reads a memory in several heads.

Letters: B sentences, H heads, Nq queries, Nk keys (and values), D model width, Dm memory width, Dk width of one head.
"""

import numpy as np

from crossattn_ref.attention.multihead import MultiHeadAttention
from crossattn_ref.checks.compare import unmoved
from crossattn_ref.checks.decided import decided, in_all_heads
from crossattn_ref.checks.draw import normal, sizes, visible
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.modules import lengths, moved, real, repeated, run
from crossattn_ref.checks.tensors import TensorSubject, drawn_state
from crossattn_ref.checks.variants import cross_attention as wrong

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
PARAMETERS = [f"{projection}.{part}" for projection in PROJECTIONS for part in ("weight", "bias")]


def _case(rng, *, same_width=False, square=False):
    """Draw a layer, its weights and its inputs, every size another; or x and memory as wide, or all counts alike."""
    B, Nq, Nk, H, Dk = sizes(rng, 5, high=7)
    if square:
        B = Nk = H = Nq
    D = H * Dk
    Dm = D if same_width or square else next(width for width in (8, 9) if width != D)
    config = {"d_model": D, "n_heads": H, "d_memory": Dm}
    state = drawn_state(MultiHeadAttention(**config), rng)
    return config, state, {"x": normal(rng, B, Nq, D), "memory": normal(rng, B, Nk, Dm)}


def _seen(rng, args, n_heads=1):
    (B, Nq, _), Nk = args["x"].shape, args["memory"].shape[1]
    return {**args, "mask": visible(rng, B, n_heads, Nq, Nk)}


def _padded(rng, args):
    """Draw lengths for the memory, and the mask that hides what lies beyond them."""
    B, Nk, _ = args["memory"].shape
    n_real = lengths(rng, B, Nk)
    return n_real, {**args, "mask": real(n_real, Nk)}


def _values(ask, rng):
    config, state, args = _case(rng)
    ask.forward_matches(config, state, **args)
    ask.forward_matches(config, state, **_seen(rng, args))
    ask.forward_matches(config, state, **_seen(rng, args, config["n_heads"]))


def _same_width(ask, rng):
    config, state, args = _case(rng, same_width=True)
    ask.forward_matches(config, state, **args)
    ask.forward_matches(config, state, **_seen(rng, args))


def _square(ask, rng):
    config, state, args = _case(rng, square=True)
    ask.forward_matches(config, state, **_padded(rng, args)[1])
    ask.forward_matches(config, state, **_seen(rng, args))


def _deleted(ask, rng):
    config, state, args = _case(rng)
    n_real, args = _padded(rng, args)
    out = run(ask, config, state, args)
    for b, n in enumerate(n_real):
        alone = run(ask, config, state, {"x": args["x"][b : b + 1], "memory": args["memory"][b : b + 1, :n]})
        why = f"sentence {b}, whose memory holds {n} real tokens, gets another result alone than in the padded batch"
        unmoved(out[b], alone[0], why, {**config, **args})


def _hidden(ask, rng):
    config, state, args = _case(rng)
    _, args = _padded(rng, args)
    noise = 10 * normal(rng, *args["memory"].shape) * ~args["mask"][:, 0, 0, :, None]
    before, after = (run(ask, config, state, {**args, "memory": args["memory"] + change}) for change in (0, noise))
    unmoved(before, after, "with other numbers in the padding of the memory, the result changes", {**config, **args})


def _neighbours(ask, rng):
    config, state, args = _case(rng)
    n_real, args = _padded(rng, args)
    memory, n_other = normal(rng, *args["memory"].shape), n_real[::-1].copy()
    memory[1], n_other[1] = args["memory"][1], n_real[1]
    other = {**args, "memory": memory, "mask": real(n_other, memory.shape[1])}
    before, after = run(ask, config, state, args)[1], run(ask, config, state, other)[1]
    unmoved(before, after, "with other sentences beside it, the result of sentence 1 changes", {**config, **args})


def _whole_memory(ask, rng):
    """Lay one sentence many times into the batch, each time with another token of its memory changed."""
    config, state, args = _case(rng)
    Nk, Dm = args["memory"].shape[1:]
    x, memory = (np.repeat(args[name][:1], Nk + 1, axis=0) for name in ("x", "memory"))
    memory[np.arange(Nk), np.arange(Nk)] += normal(rng, Nk, Dm)
    out = run(ask, config, state, {"x": x, "memory": memory})
    for token in range(Nk):
        why = f"the first sentence's memory changes at token {token} of {Nk}, and some query does not notice"
        moved(out[-1], out[token], why, {**config, **args})


def _blind(rng, args):
    """Hide the whole memory of one sentence, and all but one row of the mask of another."""
    mask = _seen(rng, args)["mask"]
    mask[0], mask[1, :, 1:] = False, False
    return {**args, "mask": mask}


def _nothing(ask, rng):
    config, state, args = _case(rng)
    n_real, args = _padded(rng, args)
    ask.forward_matches(config, state, **{**args, "mask": args["mask"] & (n_real > n_real.min())[:, None, None, None]})
    ask.forward_matches(config, state, **_blind(rng, args))


def _nothing_backwards(ask, rng):
    config, state, args = _case(rng)
    ask.gradients_match(config, state, normal(rng, *args["x"].shape), PARAMETERS, **_blind(rng, args))


def _gradients(ask, rng):
    config, state, args = _case(rng)
    ask.gradients_match(config, state, normal(rng, *args["x"].shape), PARAMETERS, **args)
    ask.gradients_match(config, state, normal(rng, *args["x"].shape), PARAMETERS, **_seen(rng, args))


def _large(ask, rng):
    config, state, args = _case(rng)
    leading = in_all_heads(config, state, args)
    x = decided(rng, args["x"], lambda x: leading(3000 * x))
    ask.forward_matches(config, state, **{**args, "x": 3000 * x})


EXERCISES = {
    "CrossAttention": Exercise(
        reference=MultiHeadAttention,
        plain=MultiHeadAttention,
        local=TensorSubject,
        wanted="tensor",
        properties=(
            Property("the same input gives the same result", 1, lambda ask, rng: repeated(ask, *_case(rng))),
            Property("right values when every size is another", 3, _values),
            Property("right values when the memory is as wide as x", 1, _same_width),
            Property("right values when the memory is as wide as x, and as long", 2, _square),
            Property("hiding a token equals deleting it", 2, _deleted),
            Property("what stands in hidden places has no effect", 1, _hidden),
            Property("every sentence reads its own memory alone", 1, _neighbours),
            Property("every query reads the whole memory", 1, _whole_memory),
            Property("a query that may look at nothing reads zeros", 1, _nothing),
            Property("and sends back no gradient", 1, _nothing_backwards),
            Property("gradients reach x, the memory and all four projections", 2, _gradients),
            Property("large scores do not overflow", 1, _large),
        ),
        misconceptions=wrong.MISTAKES,
        compositions=wrong.composed,
        alternatives=wrong.ALTERNATIVES,
    ),
}
