"""The model: tokenizer, encoder, decoders. Single-device code; parallelism is put around it.

Bachmann et al., "MultiMAE: Multi-modal Multi-task Masked Autoencoders" (ECCV 2022); on MMEarth's modalities, Sosa et
al., "MultiMAE meets Earth Observation" (ICIP 2025).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.model.decoders import Decoders
from mmae.model.encoder import Encoder, EncoderModel
from mmae.model.initialise import initialise
from mmae.model.recompute import Recompute
from mmae.model.tokenizer import Tokenizer
from mmae.types import MaskPlan, ModelOutput
from mmae.variants import Variant


class MultiMAE(EncoderModel):
    """Multi-modal masked autoencoder.

    Args:
        config: the model's configuration, already checked.
        variant: encoder size; that of `config.size` if None.
        recompute: what the backward pass recomputes, and in which encoder and decoder blocks.
        seed: the seed of the initial weights.
    """

    def __init__(
        self,
        config: ModelConfig,
        variant: Variant | None = None,
        recompute: Recompute = Recompute(),  # noqa: B008  (frozen)
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.variant = variant or config.variant
        self.tokenizer = Tokenizer(config, self.variant.dim)
        self.encoder = Encoder(config, self.variant, recompute)
        self.decoders = Decoders(config, self.variant.dim, recompute)
        initialise(self, seed)

    def tokens(self, values: Mapping[str, Tensor]) -> Tensor:
        """All tokens (B, N, D) of the input modalities; see `Tokenizer.forward`."""
        tokens_BND: Tensor = self.tokenizer(values)
        return tokens_BND

    def encode(self, tokens_BND: Tensor, plan: MaskPlan) -> Tensor:
        """The encoder's output (B, L, D) for the plan's visible tokens, then global tokens."""
        encoded_BLD: Tensor = self.encoder(tokens_BND, plan.keep_BK)
        return encoded_BLD

    def encoded(self, values: Mapping[str, Tensor], plan: MaskPlan) -> Tensor:
        """`forward` without the decoders: the encoder's output (B, L, D)."""
        # As `ModelConfig.makes_visible_only`, but a plan may show another number of tokens.
        if self.config.lean and plan.keep_BK.shape[1] <= self.config.tokens_per_modality:
            encoded_BLD: Tensor = self.encoder(self.tokenizer(values, plan.keep_BK), None)
            return encoded_BLD
        return self.encode(self.tokens(values), plan)

    def forward(self, values: Mapping[str, Tensor], plan: MaskPlan) -> ModelOutput:
        """Encode the visible tokens and predict every output's patches.

        Args:
            values: input modality -> float32 (B, C, h, w), cast to the weights' dtype, or int64 class ids (B, h, w).
            plan: which tokens are visible.

        Returns:
            Predictions and encoded tokens, in the weights' dtype.
        """
        encoded_BLD = self.encoded(values, plan)
        return ModelOutput(self.decoders(encoded_BLD, plan.keep_BK), encoded_BLD)
