"""A step of training beside one of torch.nn.Transformer, wired to the same task with the same sizes, in turn.

Both read and write the grammar with the same embeddings, the same tied output, loss, optimizer and batches; only the
layers between differ. A step is forward, loss, backward, clipping and Adam. One thread.
"""

import statistics
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from crossattn_ref.bench.measure import Measurement, side_by_side
from crossattn_ref.data.translation import splits
from crossattn_ref.models.translation import Embedding, Translator
from crossattn_ref.tasks.translation import RECIPES, Recipe, Translation, new_translator, words_of
from crossattn_ref.train.prepared import for_training

PACKAGES = ("torch",)
SEEDS = (0, 1, 2)
THREADS = 1


def hardware() -> dict[str, int]:
    """Say how many threads torch may use."""
    return {"threads": THREADS}


def measure(
    *, recipes: Sequence[str] = ("standard", "glass-box"), seeds: Sequence[int] = SEEDS, seconds: float = 15.0
) -> Iterator[Measurement]:
    """Time steps of both; the samples of the ratio are ratios of medians, one for each seed."""
    torch.set_num_threads(THREADS)
    pairs = splits()["train"]
    for name in recipes:
        rates = [_steps_per_second(RECIPES[name], pairs, seed, seconds) for seed in seeds]
        ours, theirs = zip(*rates, strict=True)
        for metric, unit, samples in (
            ("steps_per_second", "steps/s", ours),
            ("torch_steps_per_second", "steps/s", theirs),
            ("ratio_to_torch", "x", [one / other for one, other in rates]),
        ):
            yield Measurement(
                case=f"grammar/{name}", metric=metric, unit=unit, samples=list(samples), seeds=list(seeds)
            )


class Torchs(nn.Module):
    """nn.Transformer between the embeddings and the tied output of a Translator: the same signature, the same sizes.

    Its heads of cross-attention are as many as the others, which changes no size. True = may not look, here.
    """

    def __init__(self, model: Translator):
        super().__init__()
        config = model.config
        options = {"dropout": config.dropout, "batch_first": True, "norm_first": config.norm == "pre"}
        sizes = config.d_model, config.n_heads, config.d_ff
        first, second = nn.TransformerEncoderLayer(*sizes, **options), nn.TransformerDecoderLayer(*sizes, **options)
        norms = [nn.LayerNorm(config.d_model) if config.norm == "pre" else None for _ in range(2)]  # as ours: the last
        encoder = nn.TransformerEncoder(first, config.n_encoder_layers, norms[0], enable_nested_tensor=False)
        decoder = nn.TransformerDecoder(second, config.n_decoder_layers, norms[1])
        self.src_embedding, self.tgt_embedding = (
            Embedding(n, config) for n in (config.n_src_tokens, config.n_tgt_tokens)
        )
        self.layers = nn.Transformer(
            config.d_model, config.n_heads, custom_encoder=encoder, custom_decoder=decoder, **options
        )
        self.output = nn.Linear(config.d_model, config.n_tgt_tokens)
        self.output.weight = self.tgt_embedding.tokens.weight

    def forward(self, src: Tensor, lengths: Tensor, tgt: Tensor) -> Tensor:
        """Compute the logits of what follows each target token."""
        hidden = torch.arange(src.shape[1]) >= lengths[:, None]
        later = torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool).triu(1)
        x, y = self.src_embedding(src), self.tgt_embedding(tgt)
        masks = {"src_key_padding_mask": hidden, "memory_key_padding_mask": hidden}
        return self.output(self.layers(x, y, tgt_mask=later, tgt_is_causal=True, **masks))


def _steps_per_second(recipe: Recipe, pairs, seed, seconds):
    words = words_of(pairs, None)
    model = new_translator(recipe, words, seed=seed)
    numbers = [(words[0].encode(pair.src), words[1].encode(pair.tgt)) for pair in pairs]
    task = Translation(numbers, numbers, n_tokens=recipe.n_tokens, smoothing=recipe.smoothing, seed=seed)
    batches = task.epoch(0)[:10]
    calls = [_steps(one.train(), task, batches, recipe) for one in (for_training(model), Torchs(model))]
    samples = side_by_side(calls, seconds=seconds, at_most=2000)
    return [1e6 / statistics.median(one) * len(batches) for one in samples]


def _steps(model, task, batches, recipe):
    """Make a call of as many steps as there are batches, so that every call does the same work."""
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-4, fused=True)

    def steps():
        for batch in batches:
            total, count = task.loss(model, batch)
            (total / count).backward()
            nn.utils.clip_grad_norm_(parameters, recipe.plan.clip_norm)
            optimizer.step()
            optimizer.zero_grad()

    return steps
