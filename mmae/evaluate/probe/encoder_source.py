"""Where a probed encoder comes from: a model folder, a name on the hub, or a checkpoint of a run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmae.errors import InputError

if TYPE_CHECKING:
    from mmae.inference.raw_encoder import RawEncoder


@dataclass(frozen=True)
class EncoderSource:
    """Attributes:
    location: a run's folder, a model folder or `owner/name` on the hub.
    step: the checkpoint's step; None for a model, and for the newest checkpoint of a run.
    trust: read files that other users wrote or can write.
    """

    location: str
    step: int | None
    trust: bool

    def load(self, device: str) -> RawEncoder:
        """The encoder, in eval mode on a device, float32.

        Raises:
            InputError: there is no such run, checkpoint or model, or a file is damaged.
        """
        if not is_run(self.location):
            from mmae.inference.raw_encoder import load_encoder

            return load_encoder(self.location, trust=self.trust, device=device)
        return self._from_run(device)

    def _from_run(self, device: str) -> RawEncoder:
        from mmae.engine.checkpoint.consolidate import load_trained
        from mmae.inference.raw_encoder import RawEncoder
        from mmae.model.saved.saved_config import SavedModel
        from mmae.variants import VARIANTS
        from mmae.version import __version__

        trained = load_trained(self.location, self.step, self.trust)
        config = trained.config.model
        saved = SavedModel(config, VARIANTS[config.size], trained.band_stats, {}, __version__)
        return RawEncoder(trained.model.to(device), saved)


def is_run(location: str) -> bool:
    """Whether a location is a run's folder, and not a model."""
    from mmae.run.folder import RunFolder

    return RunFolder(Path(location)).config_file.is_file()


def sources(location: str, step: str | None, trust: bool) -> list[EncoderSource]:
    """The encoders that `--step` names: `all`, or a list of steps; the newest checkpoint if nothing is said.

    Raises:
        InputError: steps of a model, or a word that is no step.
    """
    if not is_run(location):
        if step is not None:
            raise InputError(f"--step {step}: {location} is a model, and only runs have steps: leave --step out")
        return [EncoderSource(location, None, trust)]
    if step is None:
        return [EncoderSource(location, None, trust)]
    return [EncoderSource(location, number, trust) for number in _steps(location, step, trust)]


def weights_hash(encoder: RawEncoder) -> str:
    """What features of an encoder depend on: its weights, configuration and statistics, wherever they were read."""
    saved = encoder.saved
    facts = {"model": asdict(saved.config), "variant": asdict(saved.variant), "stats": dict(saved.band_stats)}
    facts["model"].pop("init_from", None)
    found = hashlib.blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=16)
    for name, tensor in sorted(encoder.model.state_dict().items()):
        # Decoders change no feature.
        if not name.startswith("decoders"):
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _steps(location: str, said: str, trust: bool) -> list[int]:
    from mmae.run.folder import open_run
    from mmae.run.layout import newest_first, step_of

    found = (step_of(path) for path in newest_first(open_run(location, trust).checkpoints))
    there = sorted(step for step in found if step is not None)
    if said == "all":
        if not there:
            raise InputError(f"{location}: no checkpoint yet")
        return there
    try:
        return sorted({int(word) for word in said.split(",")})
    except ValueError:
        raise InputError(f"--step {said}: give steps such as 100,200, or all") from None
