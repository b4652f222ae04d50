"""Decoding beside transformers' generate: the same weights, the same sources, the same beam, in turn, on one thread.

The model is a Marian translator of the usual size with random weights, copied into our Translator, which is made ready
for decoding. No sentence may end before its last step: generate is given a shortest length, our beam may not write
EOS. Beside it stands how both do where no token ends a sentence, which spares generate the work of ruling EOS out.
Both must write the same tokens, or there is no figure. Where the time goes is told by hooks on the parts of both
models; the rest is choosing tokens and keeping the books, and in transformers also moving caches.
"""

import contextlib
import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, MarianConfig, MarianMTModel

from crossattn_ref.bench.measure import Measurement
from crossattn_ref.decode.beam import beam
from crossattn_ref.decode.prepared import for_decoding
from crossattn_ref.models.translation import State, Translator, TranslatorConfig

PACKAGES = ("torch", "transformers")
SEEDS = (0, 1, 2)
THREADS = 1
END = 0  # the number of EOS in a Marian vocabulary
REST = "choosing and the rest"
ATTENTIONS = {"self_attn": "self_attention", "encoder_attn": "cross_attention"}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a Marian model is, and what is decoded with it."""

    name: str = "marian-size"
    n_tokens: int = 58_101
    d_model: int = 512
    n_heads: int = 8
    n_layers: int = 6
    d_ff: int = 2048
    n_sentences: int = 8
    width: int = 4
    n_source: int = 40
    n_steps: int = 64


def hardware() -> dict[str, int]:
    """Say how many threads torch may use."""
    return {"threads": THREADS}


def measure(*, size: Size | None = None, seeds: Sequence[int] = SEEDS, rounds: int = 1) -> Iterator[Measurement]:
    """Measure decoding with every seed; the samples of a ratio are ratios of medians, one for each seed.

    Raises ValueError where the two write different tokens.
    """
    size, before = size or Size(), torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        runs = [_run(size, seed, rounds) for seed in seeds]
    finally:
        torch.set_num_threads(before)
    case, more = f"{size.name}/beam{size.width}", {"size": asdict(size)}
    figures = {
        "speedup_over_transformers": ("theirs / ours", [run.theirs / run.ours for run in runs]),
        "speedup_without_eos": ("theirs / ours", [run.theirs_free / run.ours_free for run in runs]),
        "seconds": ("s", [run.ours for run in runs]),
        "transformers_seconds": ("s", [run.theirs for run in runs]),
        "cross_memory_bytes": ("bytes", [float(run.memory_bytes) for run in runs]),
        "cross_projections": ("calls", [float(run.projections) for run in runs]),
    }
    for metric, (unit, samples) in figures.items():
        yield Measurement(case=case, metric=metric, unit=unit, samples=samples, seeds=list(seeds), more=more)
    for whose in ("ours", "transformers"):
        parts = [run.parts[whose] for run in runs]
        for part in parts[0]:
            yield Measurement(
                case=f"{case}/{whose}", metric=part, unit="s", samples=[p[part] for p in parts], seeds=list(seeds)
            )


def marian(size: Size, *, std: float = 0.02) -> MarianMTModel:
    """Draw a Marian model whose weights have a standard deviation of std."""
    halves = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {
            "layers": size.n_layers, "attention_heads": size.n_heads, "ffn_dim": size.d_ff,
        }.items()
    }  # fmt: skip
    tokens = {"pad_token_id": size.n_tokens - 1, "decoder_start_token_id": size.n_tokens - 1, "eos_token_id": END}
    config = MarianConfig(
        vocab_size=size.n_tokens, d_model=size.d_model, activation_function="swish", scale_embedding=True,
        max_position_embeddings=512, forced_eos_token_id=None, bos_token_id=None, init_std=std, **tokens, **halves,
    )  # fmt: skip
    return MarianMTModel(config).eval()


def translator_of(theirs: MarianMTModel) -> Translator:
    """Copy a Marian model into a Translator, which then computes the same logits."""
    c = theirs.config
    config = TranslatorConfig(
        n_src_tokens=c.vocab_size, n_tgt_tokens=c.vocab_size, d_model=c.d_model, n_heads=c.encoder_attention_heads,
        n_encoder_layers=c.encoder_layers, n_decoder_layers=c.decoder_layers, d_ff=c.encoder_ffn_dim, norm="post",
        activation="silu", positions="learned", n_positions=c.max_position_embeddings, shared=True,
    )  # fmt: skip
    ours, weights = Translator(config).eval(), theirs.state_dict()
    state = {
        "output.bias": weights["final_logits_bias"][0],
        "output.weight": weights["lm_head.weight"],
        "tgt_embedding.tokens.weight": weights["model.shared.weight"],
        "tgt_embedding.positions.vectors": weights["model.decoder.embed_positions.weight"],
    }
    state |= {name.replace("tgt", "src", 1): weight for name, weight in state.items() if name.startswith("tgt")}
    for name, weight in weights.items():
        if ".layers." in name:
            state[_ours(name)] = weight
    ours.load_state_dict(state)
    return ours


def _ours(name):
    """Translate the name of a layer's parameter."""
    side, _, number, part, *rest = name.removeprefix("model.").split(".")
    for theirs, here in ATTENTIONS.items():
        part = f"around_{here}.layer_norm" if part == f"{theirs}_layer_norm" else here if part == theirs else part
    names = {
        "fc1": "feed_forward.inner",
        "fc2": "feed_forward.outer",
        "final_layer_norm": "around_feed_forward.layer_norm",
    }
    return ".".join([side, number, names.get(part, part), *rest])


def generate(theirs: MarianMTModel, src: Tensor, *, width: int, n_steps: int, forced: bool = True) -> Tensor:
    """Write n_steps tokens for each source with transformers -> (B, n_steps).

    forced: EOS may not be written before (min_new_tokens); else no token ends a sentence, which is less work.
    """
    c, eos = theirs.config, theirs.config.eos_token_id
    theirs.generation_config.eos_token_id = eos if forced else None
    ends = {"eos_token_id": eos, "min_new_tokens": n_steps} if forced else {}
    tokens = {"pad_token_id": c.pad_token_id, "decoder_start_token_id": c.decoder_start_token_id}
    config = GenerationConfig(
        num_beams=width, max_new_tokens=n_steps, do_sample=False, use_cache=True, **tokens, **ends
    )
    with torch.inference_mode():
        return theirs.generate(src, attention_mask=torch.ones_like(src), generation_config=config)[:, 1:]


def write(ours: Translator, src: Tensor, *, width: int, n_steps: int, forced: bool = True) -> Tensor:
    """Write n_steps tokens for each source with our beam -> (B, n_steps); forced as for generate."""
    lengths = torch.full((len(src),), src.shape[1])
    with torch.inference_mode():
        memory = ours.encode(src, lengths)
    start, never = ours.config.n_tgt_tokens - 1, (END,) if forced else ()
    found = beam(ours, memory, lengths, width=width, max_tokens=n_steps, bos=start, eos=None, never=never)
    return torch.tensor([written[0].tokens for written in found])


@dataclass(frozen=True)
class _Run:
    """What one seed showed: seconds of both, where they went, and what our memory of the source costs."""

    ours: float
    theirs: float
    ours_free: float
    theirs_free: float
    parts: dict[str, dict[str, float]]
    memory_bytes: int
    projections: int


def _run(size, seed, rounds):
    torch.manual_seed(seed)
    theirs = marian(size)
    ours = for_decoding(translator_of(theirs))
    src = torch.randint(1, size.n_tokens - 1, (size.n_sentences, size.n_source))
    calls = [
        functools.partial(call, model, src, width=size.width, n_steps=size.n_steps, forced=forced)
        for forced in (True, False)
        for call, model in ((write, ours), (generate, theirs))
    ]
    seconds = [[] for _ in calls]
    for turn in range(rounds):
        for i in range(0, len(calls), 2):
            _timed_in_turn(calls[i : i + 2], seconds[i : i + 2], seed, turn % 2)
    parts = {"ours": _parts(calls[0], _our_parts(ours)), "transformers": _parts(calls[1], _their_parts(theirs))}
    return _Run(*map(statistics.median, seconds), parts, *_memory(ours, calls[0]))


def _timed_in_turn(calls, seconds, seed, first):
    """Time two calls, one after the other, and see that they write the same."""
    written = [None, None]
    for i in (first, 1 - first):
        start = time.perf_counter()
        written[i] = calls[i]()
        seconds[i].append(time.perf_counter() - start)
    if not torch.equal(*written):
        raise ValueError(f"both must write the same tokens, and with seed {seed} they do not")


def _seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _our_parts(model):
    parts = {"encoder": list(model.encoder), "output projection": [model.output]}
    for name in ATTENTIONS.values():
        attentions = [getattr(layer, name) for layer in model.decoder]
        remembering = [projection for a in attentions for projection in (a.k_proj, a.v_proj)]  # called by themselves
        parts[name.replace("_", "-")] = attentions + remembering
    return parts | {"feed-forward": [layer.feed_forward for layer in model.decoder]}


def _their_parts(model):
    layers = model.model.decoder.layers
    parts = {"encoder": [model.model.encoder], "output projection": [model.lm_head]}
    parts |= {ours.replace("_", "-"): [getattr(layer, name) for layer in layers] for name, ours in ATTENTIONS.items()}
    return parts | {"feed-forward": [module for layer in layers for module in (layer.fc1, layer.fc2)]}


def _parts(call: Callable, parts: dict[str, list[nn.Module]]) -> dict[str, float]:
    """Tell how many seconds of a call each part takes, by hooks on its modules, and what is left."""
    spent, began, hooks = defaultdict(float), {}, []
    for name, modules in parts.items():
        for module in modules:
            hooks.append(module.register_forward_pre_hook(lambda m, _: began.update({m: time.perf_counter()})))
            hooks.append(module.register_forward_hook(
                lambda m, *_, name=name: spent.update({name: spent[name] + time.perf_counter() - began[m]})
            ))  # fmt: skip
    with contextlib.ExitStack() as stack:
        for hook in hooks:
            stack.callback(hook.remove)
        total = _seconds(call)
    return {name: spent[name] for name in parts} | {REST: total - sum(spent.values())}


def _memory(model, call):
    """Count the bytes of the source's keys and values at the last step, and how often a layer projected them."""
    states, counts = [], []
    with contextlib.ExitStack() as stack:
        for layer in model.decoder:
            hook = layer.cross_attention.k_proj.register_forward_hook(lambda *_: counts.append(1))
            stack.callback(hook.remove)
        step = model.step
        model.step = lambda tokens, state: states.append(state) or step(tokens, state)
        stack.callback(lambda: delattr(model, "step"))
        call()
    return cross_memory_bytes(states[-1]), len(counts) // len(model.decoder)


def cross_memory_bytes(state: State) -> int:
    """Count the bytes that the keys and values of the source take, all layers together."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
                for memory in state.memories for tensor in (memory.keys, memory.values)}  # fmt: skip
    return sum(storages.values())
