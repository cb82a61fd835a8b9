"""What DeepSpeed wraps: the model, its losses and their balancer behind one forward.

ZeRO-3 gathers a parameter while the module that owns it runs. Everything that reads a parameter in a step therefore
runs inside this forward.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmae.config.schema import ModelConfig
from mmae.losses import LossBalancer, combine, sample_losses
from mmae.model.mmae import MultiMAE
from mmae.model.recompute import Recompute
from mmae.types import Inputs, MaskPlan
from mmae.variants import Variant


class PretrainModule(nn.Module):
    """MultiMAE with its loss."""

    def __init__(
        self,
        config: ModelConfig,
        variant: Variant | None = None,
        recompute: Recompute = Recompute(),  # noqa: B008  (frozen)
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.model = MultiMAE(config, variant, recompute, seed=seed)
        self.loss_balancer = LossBalancer(len(config.outputs)) if config.task_balancer == "uncertainty" else None
        self.sample_losses = sample_losses

    def forward(self, inputs: Inputs, plan: MaskPlan, count_O: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
        """This micro-batch's part of the step's loss.

        Args:
            inputs: a micro-batch.
            plan: its visible tokens.
            count_O: scored samples of each output in the global batch.
            share: this micro-batch's share of the step, 1 / (ranks x accumulation).

        Returns:
            the part to run backward from (scalar), and each output's unweighted part (O,); summed over
            micro-batches and ranks they are the loss of the global batch. Last, whether the loss of each output for
            each sample is finite, bool (O, B).
        """
        output = self.model(inputs.values, plan)
        loss_OB = self.sample_losses(output, inputs, plan, self.config)
        log_vars_O = self.loss_balancer() if self.loss_balancer is not None else None
        return *combine(loss_OB, count_O, share, log_vars_O), loss_OB.detach().isfinite()


def compile_parts(module: PretrainModule, sharded: bool = False, backend: str = "inductor") -> None:
    """Compile the tokenizer, each encoder block, all decoders as one part, and the losses. The rest is not compiled.

    All blocks share one compiled code. Shapes are static: micro-batches have one size, and training and validation are
    compiled separately.

    Args:
        sharded: at ZeRO-3 hooks on modules gather the weights, and each hook would break the graph. Only the losses
            and the blocks are compiled, because `gather_whole_blocks` gathers a block's weights around the block.
        backend: the compiler, by torch's name.
    """
    model = module.model
    parts = [*model.encoder.blocks] if sharded else [model.tokenizer, *model.encoder.blocks, model.decoders]
    for part in parts:
        # `forward`, not the module: DeepSpeed's hooks around it stay outside the graph.
        part.forward = torch.compile(part.forward, dynamic=False, backend=backend)
    module.sample_losses = torch.compile(sample_losses, dynamic=False, backend=backend)
