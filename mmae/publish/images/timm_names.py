"""An encoder of one image under timm's names: its weights, and the arguments that make timm build the same network.

timm's ViT (Dosovitskiy et al., ICLR 2021) without the final norm and with positions for patches only is this project's
encoder of one image. timm puts its class and register tokens first, here global tokens stand last: attention does not
depend on the order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mmae.errors import InputError
from mmae.publish.images.image_bands import ImageBands, projection

if TYPE_CHECKING:
    from torch import Tensor

    from mmae.config.schema import ModelConfig
    from mmae.model.encoder import EncoderModel

ARCHITECTURE: Final = "vit_base_patch16_224"
"""timm's entry point. The arguments replace every number that its name promises."""


def grid_of(config: ModelConfig, image_hw: tuple[int, int]) -> tuple[int, int]:
    """Patches along height and width of an image.

    Raises:
        InputError: the image does not divide into patches.
    """
    patch = config.patch_size
    if any(side < patch or side % patch for side in image_hw):
        size = "x".join(map(str, image_hw))
        raise InputError(f"--image-size {size}: height and width must be multiples of the patch size, {patch}")
    return image_hw[0] // patch, image_hw[1] // patch


def timm_arguments(model: EncoderModel, channels: int, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Arguments of `timm.create_model(ARCHITECTURE, ...)`, JSON-able.

    `num_classes` stands beside them in a `config.json`: transformers gives it to timm by itself.
    """
    variant, global_tokens = model.variant, model.config.num_global_tokens
    return {
        "img_size": list(image_hw),
        "patch_size": model.config.patch_size,
        "in_chans": channels,
        "embed_dim": variant.dim,
        "depth": variant.depth,
        "num_heads": variant.num_heads,
        # timm truncates the product: half a unit keeps it from falling one short.
        "mlp_ratio": (variant.mlp_dim + 0.5) / variant.dim,
        "class_token": global_tokens > 0,
        "reg_tokens": max(0, global_tokens - 1),
        "no_embed_class": True,
        "final_norm": False,
        # timm refuses its default, the class token, where there is none.
        **({} if global_tokens else {"global_pool": pooling(model)}),
    }


def pooling(model: EncoderModel) -> str:
    """What timm makes a vector of by default: the first global token, or the mean where there is none."""
    return "token" if model.config.num_global_tokens else "avg"


def timm_state(model: EncoderModel, chosen: ImageBands, image_hw: tuple[int, int]) -> dict[str, Tensor]:
    """Weights by timm's names, float32 and contiguous, with positions for images of this size."""
    import torch

    kernel_DCpp, bias_D = projection(model, chosen)
    adapter = model.tokenizer.adapters[chosen.modalities[0].name]
    with torch.no_grad():
        positions_nD = adapter.positions(torch.float32, grid_of(model.config, image_hw))  # type: ignore[operator]
    state = {
        "patch_embed.proj.weight": kernel_DCpp,
        "patch_embed.proj.bias": bias_D,
        "pos_embed": positions_nD[None],
        **{f"blocks.{name}": tensor for name, tensor in model.encoder.blocks.state_dict().items()},
    }
    if (tokens_GD := model.encoder.global_tokens) is not None:
        state["cls_token"] = tokens_GD[None, :1]
        if len(tokens_GD) > 1:
            state["reg_token"] = tokens_GD[None, 1:]
    return {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in state.items()}
