"""The encoder of a training as a plain model, whole on every rank: neither hooks, nor shards, nor compiled parts."""

from __future__ import annotations

import torch
from torch import Tensor

from mmae.distributed.collectives import on_every_rank
from mmae.engine.deepspeed_internals.sharded_parameters import gathered, is_sharded, whole_shape
from mmae.engine.engine_protocol import Engine
from mmae.model.mmae import MultiMAE

_PARTS = ("tokenizer.", "encoder.")


def whole_encoder(engine: Engine) -> MultiMAE:
    """Tokenizer and encoder with the engine's weights, in its dtype and on its device, in eval mode. Collective.

    At ZeRO stages 0 to 2 it shares the engine's memory: use it before the next step. At stage 3 it is a copy.

    Raises:
        RankFailedError: a rank has no memory for it.
    """
    trained = engine.module.model
    parameters = {name: each for name, each in trained.named_parameters() if name.startswith(_PARTS)}

    def make() -> tuple[MultiMAE, dict[str, Tensor]]:
        with torch.device("meta"):
            model = MultiMAE(trained.config, trained.variant)
        del model.decoders
        return model, {
            name: each.new_empty(whole_shape(each), device=engine.device) if is_sharded(each) else each.detach()
            for name, each in parameters.items()
        }

    model, weights = on_every_rank(make)
    for name, each in parameters.items():
        if is_sharded(each):
            with torch.no_grad(), gathered(each):
                weights[name].copy_(each)
    model.load_state_dict(weights, assign=True)
    return model.to(engine.device).eval()
