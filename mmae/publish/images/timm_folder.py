"""`mmae export --format timm`: the encoder of one image, as a folder that timm and transformers load."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from mmae.publish.export_options import check_folder, options

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from mmae.publish.export_source import Source
    from mmae.publish.images.one_image import OneImage

check: Final = check_folder
OPTIONS: Final = options(("--modality", "--bands", "--level", "--image-size"))


def write(out: Path, source: Source, args: argparse.Namespace) -> None:
    """Write `config.json`, `model.safetensors` and `README.md`, and print what the image must hold."""
    from mmae.model.saved.weights_file import new_folder
    from mmae.publish.images.one_image import one_image

    image = one_image(source, args, with_head=True)
    with new_folder(out) as partial:
        write_timm_files(partial, image)
    print("\n".join(image.notes))


def write_timm_files(folder: Path, image: OneImage) -> None:
    """The three files, into a folder of `new_folder`."""
    from mmae.model.saved.weights_file import WEIGHTS_NAME, save_weights

    (folder / "config.json").write_text(json.dumps(timm_config(image), indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_card(image), encoding="utf-8")
    save_weights(folder / WEIGHTS_NAME, image.state)


def timm_config(image: OneImage) -> dict[str, Any]:
    """timm's `config.json`; `mmae` in it is read by nobody but people."""
    from mmae.publish.images.timm_names import ARCHITECTURE
    from mmae.version import __version__

    outputs = 0 if image.head is None else image.head.task.outputs
    labels = {} if image.head is None else {"label_names": image.head.task.targets or image.head.task.classes}
    return {
        "architecture": ARCHITECTURE,
        "num_classes": outputs,
        **labels,
        "num_features": image.width,
        "global_pool": image.pooling,
        "model_args": image.arguments,
        "pretrained_cfg": {
            "tag": "mmae",
            "custom_load": False,
            "input_size": [len(image.bands.sources), *image.image_hw],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": image.statistics.mean,
            "std": image.statistics.std,
            "num_classes": outputs,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
        "mmae": {
            "version": __version__,
            "bands": image.bands.names,
            "modalities": [modality.name for modality in image.bands.modalities],
            "level": image.statistics.level,
            "notes": image.notes,
        },
    }


_CARD: Final = """\
---
library_name: timm
tags:
- image-feature-extraction
- earth-observation
- multimae
---

# Encoder of one image

{notes}

```python
model = timm.create_model("local-dir:FOLDER", pretrained=True)      # strict: every weight is read
maps = timm.create_model("local-dir:FOLDER", pretrained=True, features_only=True)
model = transformers.AutoModel.from_pretrained("FOLDER")            # the same network
```

`timm.data.resolve_data_config` gives mean and std in stored units. A transform of torchvision that divides 8-bit
pictures by 255 does not fit them. {norm}
"""

_NO_NORM: Final = "There is no final norm: put a LayerNorm before a head that is trained on it."


def _card(image: OneImage) -> str:
    norm = _NO_NORM if image.head is None else "The head has a norm of its own."
    return _CARD.format(notes="\n".join(f"- {note}" for note in image.notes), norm=norm)
