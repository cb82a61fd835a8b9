"""The encoder of chosen inputs at one image size as a traced program: tensors in, tensors out, any batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmae.modalities import Modality
from mmae.model.encoder import EncoderModel
from mmae.model.features import features
from mmae.model.heads.block_outputs import block_outputs
from mmae.model.tuned.finetuned_model import FinetunedModel, prediction
from mmae.publish.export_options import image_size, listed
from mmae.publish.images.timm_names import grid_of
from mmae.publish.programs.input_table import input_names, input_shape, input_table

if TYPE_CHECKING:
    import argparse

    from torch.export import ExportedProgram

    from mmae.publish.export_source import Source

GLOBAL_TOKENS = "global_tokens"
PREDICTION = "prediction"


@dataclass(frozen=True)
class EncoderProgram:
    """A traced encoder, or fine-tuned model.

    Attributes:
        exported: takes the inputs in their order, gives the outputs in theirs; the batch is dynamic.
        inputs: modalities.
        outputs: `MODALITY_map` (B, h, w, D) for each input, and `global_tokens` (B, G, D) where there are any. Of a
            fine-tuned model `prediction`: probabilities or numbers in the task's units, (B, K) or (B, K, H, W).
        table: see `input_table`.
    """

    exported: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    table: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """A line on what goes in and what comes out."""
        return f"inputs {', '.join(self.inputs)} -> {', '.join(self.outputs)}; inputs are normalised, any batch"


class _Encoder(nn.Module):
    """`mmae.features` with inputs by position."""

    def __init__(self, model: EncoderModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.model = _bare(model, names)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        found = features(self.model, dict(zip(self.names, values, strict=True)))
        tokens = (found.global_tokens,) if self.model.config.num_global_tokens else ()
        return (*found.maps.values(), *tokens)


class _Predictor(nn.Module):
    """A fine-tuned model's predictions with inputs by position."""

    def __init__(self, model: FinetunedModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.head, self.model, self.task = model.head, _bare(model, names), model.task

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        encoded = block_outputs(self.model, dict(zip(self.names, values, strict=True)), blocks=self.head.blocks)
        return (prediction(self.task, self.head(encoded)),)


def _bare(model: EncoderModel, names: tuple[str, ...]) -> EncoderModel:
    """The same weights without decoders and other inputs: a program holds all weights of its module."""
    bare, tokenizer = copy.copy(model), copy.copy(model.tokenizer)
    tokenizer._modules = {"adapters": nn.ModuleDict({name: model.tokenizer.adapters[name] for name in names})}
    bare._modules = {"tokenizer": tokenizer, "encoder": model.encoder}
    return bare


def encoder_program(source: Source, args: argparse.Namespace) -> EncoderProgram:
    """Trace the encoder that the options name.

    Raises:
        InputError: the options do not fit the model.
    """
    config = source.model.config
    names = input_names(config, listed("--modalities", args.modalities))
    image_hw = image_size(args.image_size) or config.image_hw
    grid_of(config, image_hw)
    module, outputs = _module(source.model, names)
    own = source.model.tokenizer.table
    examples = tuple(_example(own[name], image_hw) for name in names)
    with torch.no_grad():
        # Positions of another grid than the model's are kept from now on, so the program holds them as numbers.
        module(*examples)
        batch = torch.export.Dim("batch")
        exported = torch.export.export(module, examples, dynamic_shapes={"values": tuple({0: batch} for _ in names)})
    _forget_sources(exported)
    table = input_table(config, names, image_hw, source.band_stats, own)
    if isinstance(source.model, FinetunedModel):
        table["task"] = {key: value for key, value in asdict(source.model.task).items() if value}
    return EncoderProgram(exported, names, outputs, table)


def _module(model: EncoderModel, names: tuple[str, ...]) -> tuple[nn.Module, tuple[str, ...]]:
    """What is traced, in eval mode, and the names of its outputs."""
    if isinstance(model, FinetunedModel):
        return _Predictor(model, names).eval(), (PREDICTION,)
    maps = tuple(f"{name}_map" for name in names)
    outputs = (*maps, GLOBAL_TOKENS) if model.config.num_global_tokens else maps
    return _Encoder(model, names).eval(), outputs


def _forget_sources(exported: ExportedProgram) -> None:
    """Remove where each operation's source lies: those paths are private, and users of the program do not need them."""
    for module in exported.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)


def _example(modality: Modality, image_hw: tuple[int, int]) -> Tensor:
    # A batch of 1 would be taken for a constant.
    shape = (2, *input_shape(modality, image_hw))
    return torch.zeros(shape, dtype=torch.int64 if modality.categorical else torch.float32)
