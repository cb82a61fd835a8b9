"""Bytes a tile that a training step keeps on the device, in closed form: eager, with fused attention.

The tensors that autograd saves are counted one by one. Two peaks are added: the most that the loss needs for a moment,
and the most that the backward pass through one block needs for recomputed tensors and gradients.

Shape letters as in `mmae.types`; I is the hidden width of a block's MLP, b the bytes of a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mmae.config.schema import ModelConfig
from mmae.modalities import MODALITIES, output_source
from mmae.model.counts.flops import Recomputation
from mmae.model.counts.parameter_counts import CLASS_WIDTH, DECODER_MLP_RATIO

FLOAT: Final = 4
INT: Final = 8
_ROWS: Final = 32
"""Attention kernels keep logsumexps for a multiple of this number of queries."""


@dataclass(frozen=True)
class Activations:
    """Bytes a tile.

    Attributes:
        tokenizer: pixels and class embeddings in the compute dtype, and all tokens.
        encoder: what the encoder's blocks keep.
        decoders: what lies around and in the decoders' blocks, the encoder's output included.
        losses: errors, masks and counts.
        loss_moment: on top of all these, while the last output is scored.
        decoder_moment: on top of all but the losses, in the backward pass of a decoder block.
        encoder_moment: on top of tokenizer and encoder, in the backward pass of an encoder block.
    """

    tokenizer: int
    encoder: int
    decoders: int
    losses: int
    loss_moment: int
    decoder_moment: int
    encoder_moment: int

    @property
    def kept(self) -> int:
        """Bytes that the forward pass keeps for the backward pass."""
        return self.tokenizer + self.encoder + self.decoders + self.losses

    @property
    def peak(self) -> int:
        """The most bytes in use at the same time."""
        encoder = self.tokenizer + self.encoder
        return max(
            self.kept + self.loss_moment,
            encoder + self.decoders + self.decoder_moment,
            encoder + self.encoder_moment,
        )


def activations(
    config: ModelConfig, recomputation: Recomputation, number_bytes: int, frozen: frozenset[str] = frozenset()
) -> Activations:
    """The bytes that a training step keeps for each tile.

    Args:
        number_bytes: bytes of a number in the weights' dtype, b: 2 or 4.
        frozen: parts of which nothing learns (`named_parts.frozen_parts`). The encoder keeps nothing where neither it
            nor the tokenizer learns; what other frozen parts save is not counted.
    """
    behind = {"tokenizer", "encoder"} <= frozen
    length = config.num_encoded_tokens + config.num_global_tokens
    variant, width, places = config.variant, config.decoder_dim, config.tokens_per_modality
    outputs = len(config.outputs)
    block = _Block(length, variant.dim, variant.mlp_dim, variant.num_heads, number_bytes, scaled=config.drop_path > 0)
    decoder_block = _Block(
        places, width, DECODER_MLP_RATIO * width, config.decoder_num_heads, number_bytes, stacked=outputs
    )
    around = _around_decoder_blocks(config, length, number_bytes)
    return Activations(
        tokenizer=_tokenizer(config, number_bytes),
        encoder=0 if behind else block.stack(variant.depth, recomputation),
        decoders=around + decoder_block.stack(config.decoder_depth, recomputation),
        losses=_losses(config),
        loss_moment=_loss_moment(config, number_bytes),
        # The inputs of the output projections are free by then.
        decoder_moment=decoder_block.moment(_of_last(recomputation, config.decoder_depth)) - decoder_block.unit,
        encoder_moment=0 if behind else block.moment(_of_last(recomputation, variant.depth)),
    )


@dataclass(frozen=True)
class _Block:
    """A pre-norm transformer block over `length` tokens.

    Attributes:
        stacked: so many side by side (`model.layers`), whose norms keep the normalised input too; 0 is one of timm's.
        scaled: each branch is multiplied with a number a sample (stochastic depth).
    """

    length: int
    width: int
    mlp: int
    heads: int
    number_bytes: int
    stacked: int = 0
    scaled: bool = False

    @property
    def copies(self) -> int:
        return max(1, self.stacked)

    @property
    def unit(self) -> int:
        """Tokens at full width: L D b."""
        return self.copies * self.length * self.width * self.number_bytes

    @property
    def hidden(self) -> int:
        """Tokens inside the MLP: L I b."""
        return self.copies * self.length * self.mlp * self.number_bytes

    @property
    def cheap(self) -> int:
        """What norms and the first residual leave behind, the block's input not counted: second input, norms."""
        normalised = 2 * self.unit if self.stacked else 0
        return 3 * self.unit + normalised + self.statistics

    @property
    def statistics(self) -> int:
        """Means and deviations of two norms."""
        return 2 * 2 * FLOAT * self.copies * self.length

    @property
    def attended(self) -> int:
        """Query, key, value, result, and the logsumexp."""
        return 4 * self.unit + self.copies * logsumexp(self.length, self.heads)

    def kept(self, how: str) -> int:
        """By one block."""
        match how:
            case "none":
                return self.unit + self.cheap + self.attended + 2 * self.hidden
            case "selective":
                # Results of products: of attention's projections, and of the MLP's two layers.
                return self.unit + self.attended + self.unit + self.hidden + self.unit
            case _:
                return self.unit

    def stack(self, depth: int, recomputation: Recomputation) -> int:
        """By blocks one after another, of which every n-th is computed again."""
        again = 0 if recomputation.how == "none" else -(-depth // recomputation.every)
        return again * self.kept(recomputation.how) + (depth - again) * self.kept("none")

    def moment(self, how: str) -> int:
        """Most that one block's backward pass adds: at the activation function inside the MLP.

        The gradient of the residual and two of the MLP's inside are there, and the inside's own result is gone.
        """
        gradients = self.unit + 2 * self.hidden
        scaled = self.unit if self.scaled else 0
        match how:
            case "none":
                return gradients + scaled - self.hidden
            case "selective":
                return gradients + self.cheap - self.unit
            case _:
                return gradients + scaled + self.cheap + self.attended + self.hidden


def _of_last(recomputation: Recomputation, depth: int) -> str:
    """How the last of so many blocks is treated, the first that the backward pass meets."""
    return recomputation.how if depth and (depth - 1) % recomputation.every == 0 else "none"


def logsumexp(queries: int, heads: int) -> int:
    """Bytes that fused attention keeps beside its inputs and its result."""
    return heads * -(-queries // _ROWS) * _ROWS * FLOAT


def _tokenizer(config: ModelConfig, number_bytes: int) -> int:
    height, width = config.image_hw
    total = config.num_tokens * config.variant.dim * number_bytes
    for name in config.in_domains:
        modality = MODALITIES[name]
        pixels = (height // modality.stride) * (width // modality.stride)
        if modality.categorical:
            total += CLASS_WIDTH * pixels * number_bytes
        elif number_bytes != FLOAT:
            total += len(modality.bands) * pixels * number_bytes
    return total


def _around_decoder_blocks(config: ModelConfig, length: int, number_bytes: int) -> int:
    outputs, width, places = len(config.outputs), config.decoder_dim, config.tokens_per_modality
    visible = config.num_encoded_tokens
    unit = outputs * places * width * number_bytes
    context = outputs * length * width * number_bytes
    # Queries (cut out of one place more), what their norm makes of them, their projection, attention's result; then
    # input and norm of the MLP; then what the output projections read.
    along_queries = 9 * unit + unit // places + 2 * DECODER_MLP_RATIO * unit
    # The context, its norm, keys and values.
    along_context = 5 * context
    statistics = 2 * FLOAT * outputs * (2 * places + length)
    indicated = len(config.in_domains) + (places if config.positions == "learned" else 0)
    indices = visible * (outputs * INT + indicated * number_bytes)
    encoded = length * config.variant.dim * number_bytes
    attention = outputs * logsumexp(places, config.decoder_num_heads)
    return along_queries + along_context + statistics + indices + encoded + attention


def _losses(config: ModelConfig) -> int:
    places, total = config.tokens_per_modality, 0
    for output in config.outputs:
        source = output_source(output)
        pixels = places * source.patch(config.patch_size) ** 2
        if source.categorical:
            # Log-probabilities, class ids, which pixels are scored.
            total += pixels * (source.channels * FLOAT + INT + 1)
        else:
            # Errors and their validity a channel; which pixels are scored and how many channels each has.
            total += pixels * (source.channels * (FLOAT + 1) + 1 + INT)
        total += INT
    return total


def _loss_moment(config: ModelConfig, number_bytes: int) -> int:
    places = config.tokens_per_modality
    numbers = [places * output_source(name).channels * output_source(name).patch(config.patch_size) ** 2
               for name in config.outputs]  # fmt: skip
    last = output_source(config.outputs[-1])
    pixels = places * last.patch(config.patch_size) ** 2
    # All predictions; prediction, target and squared error of the last one in float32, and sums over its channels.
    return sum(numbers) * number_bytes + numbers[-1] * 3 * FLOAT + pixels * (FLOAT + INT)
