"""The head of a fine-tuned model as timm has one: a vector, a layer norm, one linear layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmae.model.heads.linear_heads import LinearHead
from mmae.model.tuned.finetuned_model import FinetunedModel

if TYPE_CHECKING:
    from torch import Tensor

    from mmae.model.encoder import EncoderModel
    from mmae.model.tuned.task import Task
    from mmae.publish.images.image_bands import ImageBands


@dataclass(frozen=True)
class TimmHead:
    """A head.

    Attributes:
        pooling: timm's `global_pool`.
        state: weights by timm's names.
    """

    task: Task
    pooling: str
    state: dict[str, Tensor]

    @property
    def note(self) -> str:
        """A sentence on what the outputs are."""
        task = self.task
        if task.regression:
            listed = ", ".join(
                f"{name} = output x {std:g} + {mean:g} {unit}"
                for name, std, mean, unit in zip(task.targets, task.std, task.mean, task.units, strict=True)
            )
            return f"The head predicts {task.name}: {listed}."
        function = "sigmoid" if task.kind == "multilabel" else "softmax"
        return f"The head predicts {task.name}: {function} of the outputs is the probability of each class."


def timm_head(model: EncoderModel, chosen: ImageBands) -> tuple[TimmHead | None, str]:
    """The head, if timm computes the same one on this image; None if it does not. And a sentence for the user.

    The sentence is empty for a pretrained model, which has no head.
    """
    if not isinstance(model, FinetunedModel):
        return None, ""
    if reason := _difference(model, chosen):
        return None, f"The head for {model.task.name} is left out: {reason}."
    head = model.head
    assert isinstance(head, LinearHead)
    state = {f"fc_norm.{name}": tensor for name, tensor in head.norm.state_dict().items()}
    state |= {f"head.{name}": tensor for name, tensor in head.linear.state_dict().items()}
    found = TimmHead(model.task, "avg" if head.pooling == "mean" else "token", state)
    return found, found.note


def _difference(model: FinetunedModel, chosen: ImageBands) -> str:
    """Why timm has no such head; empty if it has."""
    head = model.head
    if not isinstance(head, LinearHead):
        return f"timm has no head {model.tuned.head.kind}"
    if head.blocks != (model.variant.depth - 1,):
        return "it reads another block than the last"
    if head.pooling == "global" and model.config.num_global_tokens > 1:
        return "it reads the mean of several global tokens"
    inputs = model.config.in_domains
    if [modality.name for modality in chosen.modalities] != list(inputs) or chosen.left_out:
        return f"it was trained on all bands of {', '.join(inputs)}, each modality with tokens of its own"
    return ""
