"""The least that a training step can do, part by part: its matrix products, its attention, and bytes that must move.

What surrounds the products is counted as if it were fused as far as its reductions allow: activation functions within
the products that they follow, a residual with the norm after it, attention without its scores in memory. Weights that
stay in a cache are not thought of. No kernel library reaches all of it, so a time made of this is a bound.

Shape letters as in `mmae.types`; a *unit* of a block is all its tokens at full width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mmae.config.schema import Config, ModelConfig
from mmae.modalities import MODALITIES, output_source
from mmae.model.counts.block_matrices import ITERATIONS, muon_matrices
from mmae.model.counts.parameter_counts import (
    DECODER_MLP_RATIO,
    parameter_counts,
    patch_inputs,
    patch_values,
    visible_row,
)
from mmae.plan.activations import FLOAT
from mmae.plan.memory import input_bytes, stored_bytes

_UNITS: Final = 16
"""Of a block, around its products: forward, each of two norms reads the stream and a branch and writes both results;
backward, it reads a gradient and the stream, and reads and writes the stream's gradient."""
CROSS_ATTENTION: Final = "decoders' cross-attention"
"""The part whose queries are not of the tokens that its keys are of."""
_HIDDEN: Final = 2
"""Of the MLP's inside: what the activation function was applied to, written once and read once."""


@dataclass(frozen=True)
class Product:
    """A product of matrices (b, m, k) x (b, k, n), and how often a step makes it."""

    b: int
    m: int
    k: int
    n: int
    times: int
    left_transposed: bool = False
    right_transposed: bool = False

    @property
    def flops(self) -> int:
        return 2 * self.b * self.m * self.k * self.n

    @property
    def numbers(self) -> int:
        """Read and written."""
        return self.b * (self.m * self.k + self.k * self.n + self.m * self.n)


@dataclass(frozen=True)
class Attention:
    """Attention of `batch` x `heads` sequences forward and backward, and how often a step makes it."""

    batch: int
    heads: int
    queries: int
    keys: int
    width: int
    times: int

    @property
    def flops(self) -> int:
        """Two products forward, four backward; scores that a kernel computes again are left out."""
        return 6 * 2 * self.batch * self.heads * self.queries * self.keys * self.width

    @property
    def numbers(self) -> int:
        """Forward: queries, keys, values and the result. Backward: the same, and the gradients of the first three."""
        along_queries, along_keys = 2 + 3, 2 + 4
        return self.batch * self.heads * self.width * (along_queries * self.queries + along_keys * self.keys)


@dataclass(frozen=True)
class Part:
    """A part of a step.

    Attributes:
        moved: bytes that must move beside those of products and attention.
        number_bytes: of a number that products and attention read and write.
    """

    name: str
    number_bytes: int
    products: tuple[Product, ...] = ()
    attention: Attention | None = None
    moved: int = 0

    @property
    def flops(self) -> int:
        attention = self.attention.times * self.attention.flops if self.attention else 0
        return attention + sum(each.times * each.flops for each in self.products)

    @property
    def bytes(self) -> int:
        """All that must move, operands and results of products and attention included."""
        attention = self.attention.times * self.attention.numbers if self.attention else 0
        numbers = attention + sum(each.times * each.numbers for each in self.products)
        return self.moved + numbers * self.number_bytes

    def seconds(self, flops: float, bandwidth: float) -> float:
        """At the peak of a device's arithmetic or of its memory, whichever takes longer for each product.

        Args:
            flops: operations a second.
            bandwidth: bytes a second.
        """
        works: list[Product | Attention] = [*self.products, *([self.attention] if self.attention else [])]
        slower = (each.times * max(each.flops / flops, each.numbers * self.number_bytes / bandwidth) for each in works)
        return sum(slower) + self.moved / bandwidth


def least_work(recipe: Config, micro_batch: int, number_bytes: int) -> list[Part]:
    """A training step of one micro-batch on one device, without recomputation.

    Args:
        micro_batch: B.
        number_bytes: bytes of a number in the compute dtype: 2 or 4.
    """
    config = recipe.model
    variant, length = config.variant, config.num_encoded_tokens + config.num_global_tokens
    outputs, width, places = len(config.outputs), config.decoder_dim, config.tokens_per_modality
    tokens, queries = micro_batch * length, outputs * micro_batch * places
    stack, hidden = outputs * micro_batch, DECODER_MLP_RATIO * width
    heads = config.decoder_num_heads
    block = tokens * (_UNITS * variant.dim + _HIDDEN * variant.mlp_dim)
    decoder_block = queries * (_UNITS * width + _HIDDEN * hidden)
    # Around the cross-attention: one norm and residual, an MLP, and the inputs of two more norms and their gradients.
    around = queries * ((_UNITS // 2 + 2) * width + _HIDDEN * hidden) + 2 * outputs * tokens * width
    cross = Attention(stack, heads, places, length, width // heads, 1)
    own = Attention(stack, heads, places, places, width // heads, config.decoder_depth)
    written = visible_row(config) if config.makes_visible_only else 0
    parts = [
        Part("tokenizer", number_bytes, tuple(_tokenizer(config, micro_batch)),
             moved=micro_batch * config.num_encoded_tokens * (2 * variant.dim + written) * number_bytes),
        Part("encoder's products", number_bytes, tuple(_encoder(config, tokens))),
        Part("encoder's attention", number_bytes, attention=Attention(
            micro_batch, variant.num_heads, length, length, variant.dim // variant.num_heads, variant.depth)),
        Part("around the encoder's products", number_bytes, moved=variant.depth * block * number_bytes),
        Part("decoders' products", number_bytes, tuple(_decoders(config, micro_batch))),
        Part(CROSS_ATTENTION, number_bytes, attention=cross),
        Part("decoders' self-attention", number_bytes, attention=own),
        Part("around the decoders' products", number_bytes,
             moved=(config.decoder_depth * decoder_block + around) * number_bytes),
        Part("losses", number_bytes, moved=micro_batch * _loss_bytes(config, number_bytes)),
        Part("preparing tiles", number_bytes,
             moved=micro_batch * (stored_bytes(recipe) + input_bytes(recipe))),
        Part("optimiser", number_bytes, tuple(_muon(recipe)),
             moved=parameter_counts(config).total * optimiser_bytes(number_bytes)),
    ]  # fmt: skip
    return [part for part in parts if part.bytes]


def optimiser_bytes(number_bytes: int) -> int:
    """Of a parameter: its gradient is read for the norm and for the step, and its weight is written where it is a copy.

    In float32 the weight is its own master.
    """
    gradient = 2 * number_bytes
    return 6 * FLOAT + gradient + (number_bytes if number_bytes != FLOAT else 0)


def step_seconds(parts: list[Part], flops: float, bandwidth: float) -> float:
    """The bound of a whole step on a device with these peaks."""
    return sum(part.seconds(flops, bandwidth) for part in parts)


def _linear(
    rows: int, inputs: int, outputs: int, times: int = 1, stack: int = 1, input_gradient: bool = True
) -> Iterator[Product]:
    """A linear layer's product forward, and those for the gradients of its input and its weight."""
    yield Product(stack, rows, inputs, outputs, times, right_transposed=True)
    if input_gradient:
        yield Product(stack, rows, outputs, inputs, times)
    yield Product(stack, outputs, rows, inputs, times, left_transposed=True)


def _tokenizer(config: ModelConfig, micro_batch: int) -> Iterator[Product]:
    if config.makes_visible_only:
        rows = micro_batch * config.num_encoded_tokens
        yield from _linear(rows, visible_row(config), config.variant.dim, input_gradient=False)
        return
    for name in config.in_domains:
        modality = MODALITIES[name]
        rows = micro_batch * config.tokens_per_modality
        # Pixels need no gradient; class embeddings do.
        inputs, learned = patch_inputs(modality, config), modality.categorical
        yield from _linear(rows, inputs, config.variant.dim, input_gradient=learned)


def _encoder(config: ModelConfig, rows: int) -> Iterator[Product]:
    variant = config.variant
    width, hidden = variant.dim, variant.mlp_dim
    for inputs, outputs in ((width, 3 * width), (width, width), (width, hidden), (hidden, width)):
        yield from _linear(rows, inputs, outputs, variant.depth)


def _decoders(config: ModelConfig, micro_batch: int) -> Iterator[Product]:
    stack, width, depth = len(config.outputs), config.decoder_dim, config.decoder_depth
    hidden, rows = DECODER_MLP_RATIO * width, micro_batch * config.tokens_per_modality
    context = micro_batch * (config.num_encoded_tokens + config.num_global_tokens)
    yield from _linear(context, config.variant.dim, stack * width)
    yield from _linear(context, width, 2 * width, stack=stack)
    yield from _linear(rows, width, width, 2 + depth, stack)
    if depth:
        yield from _linear(rows, width, 3 * width, depth, stack)
    yield from _linear(rows, width, hidden, 1 + depth, stack)
    yield from _linear(rows, hidden, width, 1 + depth, stack)
    for output in config.outputs:
        yield from _linear(rows, width, patch_values(output, config))


def _muon(recipe: Config) -> Iterator[Product]:
    for each in muon_matrices(recipe):
        for number, (rows, inner, columns) in enumerate(each.products):
            yield Product(each.count, rows, inner, columns, ITERATIONS, right_transposed=number == 0)


def _loss_bytes(config: ModelConfig, number_bytes: int) -> int:
    """Of a tile: predictions and targets are read, gradients of predictions are written."""
    total = 0
    for output in config.outputs:
        values, source = config.tokens_per_modality * patch_values(output, config), output_source(output)
        targets = values // source.channels if source.categorical else values
        total += 2 * values * number_bytes + targets * FLOAT
    return total
