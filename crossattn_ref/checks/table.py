"""Which exercises there are. A subject's module loads when one of its exercises is asked for."""

import difflib
import importlib
from collections.abc import Callable

from crossattn_ref.checks.exercise import Exercise
from crossattn_ref.checks.exercise import examine as examine_subject
from crossattn_ref.checks.report import Finding, Misconception, Report

EXERCISES = {
    "attention": ("softmax", "attention", "reverse", "symmetry_test", "softmax_backward", "attention_backward"),
    "masks": ("padding_mask", "causal_mask", "combine", "masked_attention", "to_key_padding_mask", "leak_test"),
    "heads": ("split_heads", "merge_heads", "MultiHeadAttention", "grouped_attention"),
    "encoder": ("EncoderLayer", "sinusoidal_positions"),
    "cross-attention": ("CrossAttention", "DecoderLayer", "source_swap_test"),
    "translation": (
        "collate",
        "label_smoothed_loss",
        "encode_decode",
        "blind_source_baseline",
        "batch_invariance_test",
        "alignment_error_rate",
    ),
    "decoding": ("greedy", "cached_step", "beam_step", "fold_beams"),
    "summarization": ("copy_distribution",),
    "captioning": ("patchify", "encode", "blank_image_baseline", "pointing_game"),
    "vqa": ("question_prior", "balanced_pairs", "encode"),
    "bridges": ("LatentResampler", "gated_layer", "media_mask"),
    "cost": ("roofline", "predict_doubling"),
    "online-softmax": ("merge", "chunked_attention", "chunked_backward"),
    "gpu-efficiency": ("split_keys", "ragged", "audit", "kernel"),
    "long-memories": ("error_budget",),
}

# An exercise lies in the module of its subject, but for those that need torch or triton where the rest does not.
ELSEWHERE = {
    "heads/MultiHeadAttention": "multihead",
    "heads/grouped_attention": "multihead",
    "encoder/EncoderLayer": "encoder_layer",
    "cross-attention/CrossAttention": "cross_attention_layer",
    "cross-attention/DecoderLayer": "decoder_layer",
    "translation/encode_decode": "encode_decode",
    "bridges/LatentResampler": "latent_resampler",
    "gpu-efficiency/kernel": "kernel",
}


# Packages that answers import beside NumPy although no tensor goes in or out: their check runs them elsewhere.
NEEDS = {"gpu-efficiency/kernel": ("torch", "triton")}


def exercises() -> list[str]:
    """Name every exercise, as "<subject>/<exercise>"."""
    return [f"{subject}/{name}" for subject, names in EXERCISES.items() for name in names]


def find(name: str) -> Exercise:
    """Load one exercise. Raises ValueError with the known names for one that does not exist,
    and ModuleNotFoundError for one that needs what is not installed.
    """
    if name not in exercises():
        near = difflib.get_close_matches(str(name), exercises(), n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no exercise {name!r}.{guess} The exercises are: {', '.join(exercises())}")
    try:
        return importlib.import_module(module_of(name)).EXERCISES[name.partition("/")[2]]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{name} needs {error.name}, which is not installed", name=error.name) from None


def module_of(name: str) -> str:
    """Name the module in which the check of an exercise lies."""
    return f"crossattn_ref.checks.{ELSEWHERE.get(name, name.partition('/')[0].replace('-', '_'))}"


def examine(name: str, answer: Callable, seed: int = 0) -> Report:
    """Judge an answer by every property of its exercise, and name the mistake where it is a known one.

    The same seed draws the same inputs. Nothing that the answer raises, prints or warns escapes.
    Raises ValueError for an exercise that does not exist.
    """
    exercise = find(name)
    if not callable(answer):
        message = f"your answer is {answer!r:.80}, not a function or a class: pass it by its name, without calling it"
        findings = tuple(Finding(prop.name, prop.share, False, None, message) for prop in exercise.properties)
        return Report(name, 0.0, findings, seed=seed)
    return examine_subject(name, exercise, exercise.local(answer), seed)


def reference(name: str) -> Callable:
    """Return the right answer to an exercise, for tests and instructors."""
    return find(name).reference


def misconceptions(name: str) -> list[Misconception]:
    """List the known mistakes of an exercise, each of which runs."""
    return list(find(name).misconceptions)


def alternatives(name: str) -> list[Callable]:
    """List right answers that compute differently from the reference; every check must accept them."""
    return list(find(name).alternatives)
