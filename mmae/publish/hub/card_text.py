"""The parts of a model card that are the same for every model."""

from __future__ import annotations

from typing import Final

INSTALL: Final = """\
It needs torch, safetensors, numpy, pydantic, pyyaml, huggingface_hub, and mmae itself, which is installed from a
checkout of its code: `pip install --no-deps .` in that folder. This card knows no public address of mmae. Whoever
shares these weights can say where the code is; a package of that name on an index may be somebody else's."""

USE: Final = f"""\
```python
import mmae

encoder = mmae.load_encoder("THIS_FOLDER_OR_ITS_NAME_ON_THE_HUB")
out = encoder(array_BCHW, bands=["B2", "B3", "B4"], level="l2a")  # Sentinel-2 digital numbers
out.vector, out.maps  # (B, D), and a map of tokens (B, h, w, D) for each modality
```

{INSTALL} Modalities
all of whose bands are given are encoded; the others are left out."""

LIMITS: Final = (
    "Products of processing baseline 04.00 and later (January 2022) add 1000 to Sentinel-2 digital numbers: say "
    "`offset=-1000`.",
    "Pixels are 10 m, as MMEarth resamples all bands; other resolutions were not seen.",
    "Elevation is standardised in each tile, so heights above the sea are not known to the model.",
    "The data sets of MMEarth carry licences and terms of their own (Copernicus, ESA WorldCover, ASTER).",
)

CITATION: Final = """\
- MultiMAE: Bachmann et al., ECCV 2022.
- MultiMAE meets Earth Observation: Sosa et al., ICIP 2025, [arXiv 2505.14951](https://arxiv.org/abs/2505.14951).
- MMEarth: Nedungadi et al., ECCV 2024, [arXiv 2405.02771](https://arxiv.org/abs/2405.02771)."""
