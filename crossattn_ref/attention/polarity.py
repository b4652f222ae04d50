"""What a mask means to each attention that people call: found out by calling it.

One trick serves all: every score is made equal and the values are made the rows of an identity matrix,
so that the output *is* the weights, and shows which keys were read.
Letters: Nq queries, Nk keys; here 2 and 3.
"""

import html
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right, causal_upper_left
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from crossattn_ref.attention import dense, reference
from crossattn_ref.attention.inputs import Lengths
from crossattn_ref.attention.multihead import MultiHeadAttention

N_QUERIES, N_KEYS = 2, 3
SCORES = (1, 1, N_QUERIES, N_KEYS)
WIDTH = 4  # of a model with two heads; at least N_KEYS


@dataclass(frozen=True, kw_only=True)
class Api:
    """An attention and the argument through which it takes a mask.

    read takes a mask over keys, bool (Nk,), hands it to the API as it stands, and returns the weights (Nq, Nk)
    that come out. causal, where the argument says so, returns the weights under it. Either may be missing.
    """

    name: str
    argument: str
    read: Callable[[Tensor], Tensor] | None = None
    causal: Callable[[], Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one API does: what True means to it, what a query gets that sees nothing, where causality is aligned.

    "-" where its argument has no such meaning.
    """

    name: str
    argument: str
    true_means: str
    sees_nothing: str
    causal: str


def probe(api: Api) -> Finding:
    """Find out by four calls what an API does with its mask."""
    true_means = "-" if api.read is None else _true_means(api.read)
    masking = true_means in ("may look", "do not look")
    return Finding(
        name=api.name,
        argument=api.argument,
        true_means=true_means,
        sees_nothing=_sees_nothing(api.read, true_means) if masking else "-",
        causal="-" if api.causal is None else _alignment(api.causal()),
    )


def table(apis: list[Api]) -> str:
    """Write the findings of several APIs as a table in HTML, one row for each."""
    heads = "attention and its argument", "True means", "a query that sees nothing gets", "causal, if Nq and Nk differ"
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "\n".join(_row(probe(api)) for api in apis)
    frame = '<div style="overflow-x: auto" tabindex="0" role="region" aria-label="What each attention makes of a mask">'
    return f'{frame}<table class="table"><tr>{head}</tr>\n{body}</table></div>'


def versions() -> str:
    """Name the releases that the findings hold for."""
    names = [name for name in ("torch", "transformers") if importlib.util.find_spec(name)]
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def ours() -> list[Api]:
    """List the attentions of this package."""
    q, k, v = torch.zeros(1, 1, N_QUERIES, WIDTH), torch.zeros(1, 1, N_KEYS, WIDTH), torch.eye(N_KEYS)[None, None]
    arrays = [np.asarray(tensor[0, 0]) for tensor in (q, k, v)]
    layer = MultiHeadAttention(WIDTH, 2, bias=False)
    _read_identity(layer.v_proj, layer.out_proj)
    x, memory = torch.zeros(1, N_QUERIES, WIDTH), torch.eye(N_KEYS, WIDTH)[None]
    lengths = torch.tensor([N_KEYS])
    return [
        Api(
            name="reference.attention",
            argument="mask",
            read=lambda mask: torch.from_numpy(reference.attention(*arrays, mask.numpy())),
        ),
        Api(name="dense.attention", argument="mask", read=lambda mask: dense.attention(q, k, v, mask)[0, 0]),
        *(
            Api(
                name="dense.attention",
                argument=f'Lengths(keys, "{causal}")',
                read=lambda mask: dense.attention(q, k, v, Lengths(mask.sum()[None]))[0, 0],
                causal=lambda causal=causal: dense.attention(q, k, v, Lengths(lengths, causal))[0, 0],
            )
            for causal in ("top-left", "bottom-right")
        ),
        Api(name="MultiHeadAttention", argument="mask", read=lambda mask: layer(x, memory, mask)[0]),
    ]


def torchs() -> list[Api]:
    """List the attentions of torch."""
    q, k, v = torch.zeros(1, 1, N_QUERIES, 16), torch.zeros(1, 1, N_KEYS, 16), torch.eye(N_KEYS, 16)[None, None]

    def scaled_dot_product(**options):
        return functional.scaled_dot_product_attention(q, k, v, **options)[0, 0]

    def flexible(mask):
        blocks = create_block_mask(lambda _b, _h, _i, j: mask[j], None, None, N_QUERIES, N_KEYS, device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it was not compiled, which is what we want here
            return flex_attention(q, k, v, block_mask=blocks)[0, 0]

    def masked(mask):
        return scaled_dot_product(attn_mask=mask.expand(N_QUERIES, N_KEYS))

    name = "scaled_dot_product_attention"
    return [
        Api(name=name, argument="attn_mask, is_causal", read=masked, causal=lambda: scaled_dot_product(is_causal=True)),
        *(
            Api(
                name=name,
                argument=f"attn_mask={bias.__name__}(...)",
                causal=lambda bias=bias: scaled_dot_product(attn_mask=bias(N_QUERIES, N_KEYS)),
            )
            for bias in (causal_upper_left, causal_lower_right)
        ),
        Api(name="flex_attention", argument="mask_mod", read=flexible),
        *_torchs_multihead(),
        _torchs_decoder_layer(),
    ]


def hugging_faces() -> list[Api]:
    """List the attentions of transformers, or nothing where it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return []
    import transformers

    transformers.logging.set_verbosity_error()
    return [_in_encoder_decoder("MarianModel", _marian(transformers), attend) for attend in ("sdpa", "eager")] + [
        _in_encoder_decoder("WhisperModel", _whisper(transformers), "sdpa")
    ]


def _row(finding):
    name, argument = (f"<code>{html.escape(text)}</code>" for text in (finding.name, finding.argument))
    cells = "".join(
        f"<td>{html.escape(cell)}</td>" for cell in (finding.true_means, finding.sees_nothing, finding.causal)
    )
    return f'<tr><th scope="row">{name}<br>{argument}</th>{cells}</tr>'


def _true_means(read):
    first = torch.arange(N_KEYS) == 0
    seen = read(first)[0, :N_KEYS] > 1e-6
    if torch.equal(seen, first):
        return "may look"
    if torch.equal(seen, ~first):
        return "do not look"
    return "it is ignored"


def _sees_nothing(read, true_means):
    weights = read(torch.full((N_KEYS,), true_means == "do not look"))[0, :N_KEYS]
    if weights.isnan().any():
        return "NaN"
    if (weights == 0).all():
        return "zeros"
    if torch.allclose(weights, torch.full_like(weights, 1 / N_KEYS), atol=1e-4):
        return "the average of everything that is masked"
    return f"the weights {[round(weight, 3) for weight in weights.tolist()]}"


def _alignment(weights):
    names = {"top-left": [[1, 0, 0], [1, 1, 0]], "bottom-right": [[1, 1, 0], [1, 1, 1]]}
    seen = weights[:, :N_KEYS] > 1e-6
    return next((name for name, expected in names.items() if torch.equal(seen, torch.tensor(expected) > 0)), "neither")


def _read_identity(*projections):
    """Make projections hand on what they are given."""
    for projection in projections:
        nn.init.eye_(projection.weight)
        if projection.bias is not None:
            nn.init.zeros_(projection.bias)


def _torchs_multihead():
    layer = nn.MultiheadAttention(WIDTH, 2, bias=False, batch_first=True)
    layer.in_proj_weight.data[2 * WIDTH :] = torch.eye(WIDTH)
    _read_identity(layer.out_proj)
    x, memory = torch.zeros(1, N_QUERIES, WIDTH), torch.eye(N_KEYS, WIDTH)[None]

    def reader(argument, shape, need_weights):
        def read(mask):
            masks = {argument: mask.expand(shape)}
            return layer(x, memory, memory, need_weights=need_weights, **masks)[0][0]

        return read

    shapes = {"key_padding_mask": (1, N_KEYS), "attn_mask": (N_QUERIES, N_KEYS)}
    return [
        Api(
            name="nn.MultiheadAttention",
            argument=argument + ("" if need_weights else ", need_weights=False"),
            read=reader(argument, shape, need_weights),
        )
        for argument, shape in shapes.items()
        for need_weights in (True, False)
    ]


def _torchs_decoder_layer():
    """Build a decoder layer in which nothing but cross-attention has an effect."""
    layer = nn.TransformerDecoderLayer(WIDTH, 2, dropout=0.0, bias=False, batch_first=True, norm_first=True)
    for silent in (layer.self_attn.out_proj, layer.linear2):
        nn.init.zeros_(silent.weight)
    layer.multihead_attn.in_proj_weight.data[2 * WIDTH :] = torch.eye(WIDTH)
    _read_identity(layer.multihead_attn.out_proj)
    x, memory = torch.zeros(1, N_QUERIES, WIDTH), torch.eye(N_KEYS, WIDTH)[None]
    return Api(
        name="nn.TransformerDecoderLayer",
        argument="memory_key_padding_mask",
        read=lambda mask: layer(x, memory, memory_key_padding_mask=mask[None])[0],
    )


def _in_encoder_decoder(name, model, attend):
    """Read the first cross-attention of a whole model: with W the weights and M its memory, it answers W M."""
    inputs, model = model
    cross = model.decoder.layers[0].encoder_attn
    nn.init.zeros_(cross.q_proj.weight)
    nn.init.zeros_(cross.q_proj.bias)
    _read_identity(cross.v_proj, cross.out_proj)

    def read(mask):
        model.set_attn_implementation(attend)
        noted = []
        note = cross.register_forward_hook(
            lambda _cross, _args, kwargs, out: noted.append((kwargs["key_value_states"], out[0])), with_kwargs=True
        )
        with torch.no_grad(), note:
            model(attention_mask=mask[None].long(), **inputs)
        memory, out = noted[0]
        return out[0] @ torch.linalg.pinv(memory[0])

    return Api(name=name, argument=f'attention_mask ("{attend}")', read=read)


def _sizes():
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    widths = {"d_model": 16, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    tokens = {"vocab_size": 7, "pad_token_id": 6, "eos_token_id": 5, "bos_token_id": 5, "decoder_start_token_id": 4}
    return heads | widths | tokens | {"encoder_layers": 1, "decoder_layers": 1}


def _marian(transformers):
    model = transformers.MarianModel(transformers.MarianConfig(**_sizes(), max_position_embeddings=8)).eval()
    inputs = {"input_ids": torch.arange(N_KEYS)[None], "decoder_input_ids": torch.arange(N_QUERIES)[None]}
    return inputs, model


def _whisper(transformers):
    config = transformers.WhisperConfig(**_sizes(), num_mel_bins=3, max_source_positions=N_KEYS, max_target_positions=8)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 3, 2 * N_KEYS, generator=generator)
    inputs = {"input_features": features, "decoder_input_ids": torch.arange(N_QUERIES)[None]}
    return inputs, transformers.WhisperModel(config).eval()
