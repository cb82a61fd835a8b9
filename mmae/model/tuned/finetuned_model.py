"""A fine-tuned model: the input adapters and encoder of pretraining, and a head for a task."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.draws import Stream, uniform
from mmae.model.encoder import Encoder, EncoderModel
from mmae.model.heads.block_outputs import block_outputs
from mmae.model.heads.build_head import build_head
from mmae.model.heads.head import EncoderShape
from mmae.model.initialise import initialise
from mmae.model.recompute import Recompute
from mmae.model.tokenizer import Tokenizer
from mmae.model.tuned.task import Task
from mmae.model.tuned.tuned_config import TunedConfig
from mmae.variants import Variant


class FinetunedModel(EncoderModel):
    """Normalised inputs -> class scores or numbers.

    Attributes:
        tuned: task, head and bands.
        head: from the encoder's output to the task's outputs.

    Args:
        config: of the encoder; what only decoders need is not used.
        variant: the encoder's size.
        recompute: what the backward pass recomputes.
        seed: of the initial weights.
    """

    def __init__(
        self,
        config: ModelConfig,
        variant: Variant,
        tuned: TunedConfig,
        recompute: Recompute = Recompute(),  # noqa: B008  (frozen)
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config, self.variant, self.tuned = config, variant, tuned
        self.tokenizer = Tokenizer(config, variant.dim, tuned.table(config.in_domains), tuned.base_patch)
        self.encoder = Encoder(config, variant, recompute)
        initialise(self, seed)
        self.head = build_head(tuned.head, EncoderShape.of(self), tuned.task.outputs, seed)

    @property
    def task(self) -> Task:
        return self.tuned.task

    def forward(
        self,
        values: Mapping[str, Tensor],
        mask: Mapping[str, Tensor] | None = None,
        key_B: Tensor | None = None,
    ) -> Tensor:
        """The task's outputs, in the weights' dtype: (B, K), or (B, K, H, W) at the images' resolution.

        Args:
            values: input modality -> normalised floats (B, C, H, W), C the bands of this model, or class ids
                (B, h, w); any of the inputs. H and W are multiples of the patch size.
            mask: modality -> bool (B, n) or (B, h, w), False for patches that are hidden from the encoder, as those
                without data are (`Inputs.visible`). None hides none, which is quicker.
            key_B: int64, keys that decide which branches each sample skips in training (`model.drop_path`): a sample
                skips the same in whatever batch it stands. None: the device's generator decides.

        Raises:
            ValueError: a value is no input of the model, or its shape or dtype does not fit.
        """
        draws_B2 = None
        if key_B is not None and self.training and self.encoder.drop_path:
            draws_B2 = uniform(key_B, Stream.DROP_PATH, 2 * len(self.encoder.blocks))
        outputs: Tensor = self.head(block_outputs(self, values, mask, self.head.blocks, draws_B2))
        return outputs


def prediction(task: Task, outputs: Tensor) -> Tensor:
    """What a model's outputs (B, K, ...) mean, float32: probabilities of classes, or numbers in the targets' units."""
    match task.kind:
        case "classification" | "segmentation":
            return torch.softmax(outputs.float(), dim=1)
        case "multilabel":
            return torch.sigmoid(outputs.float())
        case "regression" | "pixel_regression":
            return task.unscaled(outputs)
