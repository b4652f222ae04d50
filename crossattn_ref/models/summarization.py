"""A translator that may point: it writes a word of its vocabulary, or copies one of the text it reads.

Letters: B texts, Nk source tokens, Nq target tokens, D model width, V words of the vocabulary,
W words that can be written, those V and the ones that only a text of the batch has.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crossattn_ref.attention import dense
from crossattn_ref.models.translation import Translator, TranslatorConfig


def copy_distribution(
    weights: Float[Tensor, "B Nq Nk"], words: Int[Tensor, "B Nk"], n_words: int
) -> Float[Tensor, "B Nq W"]:
    """Share out each query's attention among the words that stand at its keys.

    P_copy(w) = sum of a_i over all i with w_i = w: a word that stands in several places gets the weight of all.
    words holds the number of the word at each key, below n_words (our W).

    Raises ValueError for weights of another shape than words, and for a word at or above n_words.
    Source: See et al., Get To The Point (2017), equation 9, second term.
    """
    if words.shape != (weights.shape[0], weights.shape[2]):
        raise ValueError(f"words must have the shape {(weights.shape[0], weights.shape[2])}, got {tuple(words.shape)}")
    if words.numel() and not 0 <= int(words.min()) <= int(words.max()) < n_words:
        raise ValueError(
            f"words must lie in [0, n_words) = [0, {n_words}), got {int(words.min())} to {int(words.max())}"
        )
    shares = weights.new_zeros(*weights.shape[:2], n_words)
    return shares.scatter_add(-1, words[:, None].expand_as(weights), weights)


class PointerGenerator(Translator):
    """Predict each word of a summary as a mixture of writing and copying.

    P(w) = p_gen P_vocab(w) + (1 - p_gen) P_copy(w), p_gen = sigmoid(w^T [context; state] + b), where P_copy shares out
    the weights with which the last decoder layer reads the text (the mean of its heads), context is the memory averaged
    with them, and state the decoder's last. A word without a number in the vocabulary can be copied, never generated.

    Source and target share one vocabulary. Sources enter the encoder with UNK where a word has no number.
    Source: See et al., Get To The Point (2017), equations 8 and 9; copying as a choice: Gu et al., CopyNet (2016).
    """

    def __init__(self, config: TranslatorConfig, *, attend: Callable = dense.attention):
        super().__init__(config, attend=attend)
        self.gate = nn.Linear(2 * config.d_model, 1)

    def mixture(
        self,
        tgt: Int[Tensor, "B Nq"],
        memory: Float[Tensor, "B Nk D"],
        lengths: Int[Tensor, " B"],
        words: Int[Tensor, "B Nk"],
        n_words: int,
    ) -> tuple[Float[Tensor, "B Nq W"], Float[Tensor, "B Nq 1"], Float[Tensor, "B Nq Nk"]]:
        """Compute the probability of each word that can come next, p_gen, and the weights that point at the source.

        words numbers the source so that no word is lost (data.summarization.extended), below n_words, our W;
        the memory was made of the same with UNK for what lies beyond the vocabulary, and so is tgt.
        Raises ValueError for n_words below V, and as copy_distribution does.
        """
        if n_words < self.config.n_tgt_tokens:
            raise ValueError(
                f"n_words ({n_words}) must be at least the size of the vocabulary ({self.config.n_tgt_tokens})"
            )
        state, weights = self._read(tgt, memory, lengths)
        p_gen = torch.sigmoid(self.gate(torch.cat([weights @ memory, state], dim=-1)))
        written = p_gen * self.output(state).softmax(dim=-1)
        copied = (1 - p_gen) * copy_distribution(weights, words, n_words)
        both = copied + nn.functional.pad(written, (0, n_words - written.shape[-1]))
        return both.clamp_min(torch.finfo(both.dtype).tiny), p_gen, weights

    def _read(self, tgt, memory, lengths):
        """Decode up to the output matrix -> (state, the weights of the last layer averaged over heads)."""
        mask, memory_mask = self._masks(tgt, memory, lengths)
        x = self.tgt_embedding(tgt)
        for layer in self.decoder:
            before, x = x, layer(x, memory, mask, memory_mask)
        weights = self.decoder[-1].cross_weights(before, memory, mask, memory_mask)
        return self.decoder_norm(x), weights.mean(dim=1)
