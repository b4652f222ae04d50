"""One sentence for each memory, one token after the other: the most probable, or a draw.

Letters: B sentences, V tokens that there are; rows = B here.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossattn_ref.data.vocabulary import BOS, EOS, PAD
from crossattn_ref.decode.model import Model, Written, check_at_least_1, without


def greedy(
    model: Model,
    memory: Tensor,
    lengths: Int[Tensor, " B"],
    *,
    max_tokens: int,
    bos: int = BOS,
    eos: int | None = EOS,
    never: Sequence[int] = (PAD, BOS),
) -> list[Written]:
    """Write, for each memory, the most probable token again and again, until EOS or max_tokens, EOS counted.

    memory (B, ...) and lengths (B,) go to model.start as they are. eos None writes max_tokens tokens.
    Tokens in never are not written.

    Raises ValueError for max_tokens below 1.
    """
    return _one_by_one(model, memory, lengths, lambda logits: logits.argmax(dim=-1), max_tokens, bos, eos, never)


def sample(
    model: Model,
    memory: Tensor,
    lengths: Int[Tensor, " B"],
    *,
    generator: torch.Generator,
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    bos: int = BOS,
    eos: int | None = EOS,
    never: Sequence[int] = (PAD, BOS),
) -> list[Written]:
    """Draw, for each memory, one token after the other from softmax(logits / temperature), until EOS or max_tokens.

    top_k draws from the k most probable tokens alone; top_p from the fewest whose probabilities sum to p or more
    (after top_k). The rest as for greedy. The generator must live on the memory's device.

    Raises ValueError for a temperature that is not positive, a top_k below 1, and a top_p outside (0, 1].
    Source: Fan et al., Hierarchical Neural Story Generation (2018), section 5.1 (top-k);
    Holtzman et al., The Curious Case of Neural Text Degeneration (2020), section 3.1 (top-p).
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}: for the likeliest, use greedy")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie above 0 and be at most 1, got {top_p}")

    def draw(logits):
        weights = nucleus(likeliest(logits / temperature, top_k), top_p).softmax(dim=-1)
        return torch.multinomial(weights, 1, generator=generator)[:, 0]

    return _one_by_one(model, memory, lengths, draw, max_tokens, bos, eos, never)


def likeliest(logits: Float[Tensor, "rows V"], top_k: int | None) -> Float[Tensor, "rows V"]:
    """Set all but the k largest logits of each row to -inf; those equal to the k-th stay. None keeps all."""
    if top_k is None or top_k >= logits.shape[-1]:
        return logits
    least = logits.topk(top_k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < least, -math.inf)


def nucleus(logits: Float[Tensor, "rows V"], top_p: float) -> Float[Tensor, "rows V"]:
    """Set the logits to -inf of all but the fewest tokens whose probabilities sum to top_p or more."""
    if top_p == 1:
        return logits
    weights, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    beyond = weights.cumsum(dim=-1) - weights >= top_p  # those before it suffice
    return logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -math.inf)


@torch.inference_mode()
def _one_by_one(model, memory, lengths, choose, max_tokens, bos, eos, never):
    """Write one token after the other for each memory, each chosen from its logits (rows, V)."""
    check_at_least_1(max_tokens=max_tokens)
    state = model.start(memory, lengths)
    tokens = torch.full((len(lengths),), bos, device=memory.device)
    sentences, written = list(range(len(lengths))), [([], []) for _ in lengths]
    for _ in range(max_tokens):
        logits, state = model.step(tokens, state)
        tokens = choose(without(logits, never))
        log_probs = logits.gather(1, tokens[:, None])[:, 0].double() - logits.logsumexp(dim=-1)
        for sentence, token, log_prob in zip(sentences, tokens.tolist(), log_probs.tolist(), strict=True):
            written[sentence][0].append(token)
            written[sentence][1].append(log_prob)
        going = [b for b, token in enumerate(tokens.tolist()) if token != eos]
        if not going:
            break
        if len(going) < len(sentences):
            kept = torch.tensor(going, device=tokens.device)
            state, tokens, sentences = state.keep(kept), tokens[kept], [sentences[b] for b in going]
    return [_written(tokens, log_probs, eos) for tokens, log_probs in written]


def _written(tokens, log_probs, eos):
    ended, total = tokens[-1] == eos, math.fsum(log_probs)
    return Written(tuple(tokens[:-1] if ended else tokens), total, total, ended)
