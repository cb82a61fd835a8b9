"""What a run is: frozen dataclasses, read from a YAML recipe and dotted overrides, checked before anything starts.

Names that MultiMAE gave its hyper-parameters stay (`num_encoded_tokens`, `alphas`, `blr`, ...).
Each field says what resuming may do with it (`Resume`): a field is fixed unless it says otherwise.
"""

from __future__ import annotations

from dataclasses import Field as DataclassField
from dataclasses import asdict, field, fields, is_dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Protocol, get_type_hints

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mmae.config.config_values import IS_PATH
from mmae.modalities import NORM_RGB, PUBLISHED
from mmae.variants import VARIANTS, Variant

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Place = Annotated[str, IS_PATH]
AttentionKernel = Literal["torch", "short"]


class Resume(StrEnum):
    """What a resumed run may do with a value that differs from the run's own."""

    FIXED = "fixed"  # refused: it would be another run
    EXPLICIT = "explicit"  # taken when said on the command line, and logged
    NEW_RUN = "new run"  # taken when said on the command line of a start that goes on in another run.dir, and logged
    FREE = "free"  # taken: it does not change what is learned


def _free(default: Any) -> Any:
    return field(default=default, metadata={"resume": Resume.FREE})


def _explicit(default: Any) -> Any:
    return field(default=default, metadata={"resume": Resume.EXPLICIT})


_STRICT: Final = ConfigDict(extra="forbid", validate_default=True)


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """Where the run lives."""

    dir: Annotated[Place, Field(min_length=1)] = _free("runs/mmae")
    """The run's folder: settings, log, checkpoints, pictures. The same folder again resumes the run."""


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """Which tiles, and how each becomes a sample."""

    shards: Place | tuple[Place, ...] = _free("")
    """Where the shards lie that `mmae repack` wrote: a folder or an address, or a list of several sets to mix.
    They may move: the identity of a set is its index's fingerprint."""
    weights: tuple[Weight, ...] | None = None
    """How often an epoch reads a tile of each set, on average: 2.5 is two passes and a fresh half. null reads
    each once."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Train on this share of each set: the tiles of 0.1 are among those of 0.2, with the same `train.seed`."""
    keys: Place | None = _free(None)
    """Train on the tiles of this list only: a file of tile ids, one a line. It may move: its content may not change."""
    max_tiles: Positive | None = None
    """Train on this number of tiles only, the first of each set's split (shards are fair samples of it)."""
    window: Positive | None = None
    """Shuffle within a window of this number of shards, for disks and networks that want long reads; null shuffles all
    at once."""
    on_damage: Literal["raise", "skip"] = _free("raise")
    """A damaged tile ends the run with shard, tile and byte (`raise`), or is left out of the loss, named and counted
    (`skip`)."""
    band_stats: Place | None = _free(None)
    """JSON file (`mmae stats`) to normalise with instead of the statistics in the set's index, or those of the mixture
    where there are several sets. It may move: its content may not change."""
    check_units: bool = _free(True)
    """Compare a sample of tiles with the band statistics before training: scale, offset, level, order of bands."""
    cache_dir: Place | None = _free(None)
    """Folder on this machine for shards that are fetched over the network."""
    cache_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = _free(100.0)
    """Most disk space, in GB, that fetched shards may take there; at least two windows of shards."""
    crop: Literal["random", "resize"] = "random"
    """How a tile is brought to `model.input_size`: a random crop (MMEarth), or a resize of the whole tile
    (published)."""
    flip: Literal["none", "horizontal", "dihedral"] = "dihedral"
    """`none`; `horizontal`, left-right for half of the tiles (published); `dihedral`, all eight flips and turns."""
    labels: Literal["nearest", "majority"] = "majority"
    """How a label map is reduced to its resolution: the centre pixel, or the most frequent class."""
    workers: Count = _free(2)
    """Loader processes a rank, at most 128; 0 reads in the training process."""
    prefetch: Positive = _free(4)
    """Micro-batches that each worker reads ahead, at most 1024."""

    @property
    def locations(self) -> tuple[str, ...]:
        """Where each shard set lies; empty where none is named."""
        listed = (self.shards,) if isinstance(self.shards, str) else self.shards
        return () if listed == ("",) else listed


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """The model: everything that decides the shapes of its weights and what they compute."""

    size: str = "base"
    """The encoder: nano, micro, tiny, small, base, large, huge, giant or gigantic (`mmae/variants.py`)."""
    in_domains: tuple[str, ...] = PUBLISHED
    """Input modalities: any of rgb, depth, semseg, ired, sired, ebands, sentinel1, dynamic_world, canopy_height and
    slope."""
    out_domains: tuple[str, ...] = PUBLISHED
    """Modalities to reconstruct, of the same ten; a decoder each."""
    extra_norm_pix_loss: bool = True
    """A second rgb decoder (`norm_rgb`) that predicts patches normalised by their own mean and variance."""
    input_size: Positive | tuple[Positive, Positive] = 56
    """Pixels of an image, one side or `[height, width]`; a multiple of the patch size."""
    patch_size: Positive = 8
    """Side of a patch in image pixels. A patch of one modality is a token."""
    num_encoded_tokens: Positive = 49
    """Visible tokens of a tile, over all modalities; the encoder sees only these."""
    num_global_tokens: Count = 1
    """Learned tokens beside the visible ones, which belong to no patch."""
    alphas: Annotated[float, Field(gt=0)] | tuple[Annotated[float, Field(gt=0)], ...] = 1.0
    """Concentration of the Dirichlet that shares visible tokens among modalities: one number, or one a modality."""
    sample_tasks_uniformly: bool = False
    """First choose a non-empty subset of modalities, then share tokens within it."""
    decoder_dim: Positive = 128
    """Width of the decoders."""
    decoder_depth: Count = 2
    """Transformer blocks of a decoder, after its cross-attention."""
    decoder_num_heads: Positive = 8
    """Attention heads of a decoder."""
    positions: Literal["fixed", "learned"] = "fixed"
    """Sine-cosine positions of the grid, kept or trained; trained ones belong to one `input_size`."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Stochastic depth: chance that a tile skips the last encoder block in training; it grows from 0 with depth."""
    loss_on_unmasked: bool = False
    """Also score the patches that were visible."""
    task_balancer: Literal["none", "uncertainty"] = "none"
    """How losses of outputs add up: their sum, or weighed by a learned uncertainty an output."""
    parametrisation: Literal["standard", "mup"] = "standard"
    """How initial weights and learning rates follow the encoder's width: `mup` keeps the best `train.blr` the same at
    all widths; both are equal at the width of base (`mmae/model/parametrisation.py`)."""
    lean: bool = _free(True)
    """Move fewer bytes in a step: only visible tokens are made, in one product; compiled blocks sum the gradients of
    biases where they are made, and decoders add biases behind their products. The result is the same up to rounding."""
    paper_exact: bool = False
    """Turn off what goes beyond the published code: validity rules, the global-batch loss, no decay on biases."""
    attention: AttentionKernel = _free("torch")
    """Attention by torch's kernels, or by our own for at most 64 tokens (`short`; `mmae/bench/README.md`), which no GPU
    has measured yet. It needs an NVIDIA GPU and Triton; where it cannot run, a start says so and takes torch's."""
    init_from: Place | None = _free(None)
    """Start a new run from the weights of a folder that `mmae export` wrote, of which what fits is taken, or of a
    published checkpoint's file."""

    @property
    def image_hw(self) -> tuple[int, int]:
        return (self.input_size, self.input_size) if isinstance(self.input_size, int) else self.input_size

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Patches along height and width, the same for every modality."""
        height, width = self.image_hw
        return height // self.patch_size, width // self.patch_size

    @property
    def tokens_per_modality(self) -> int:
        return self.grid_hw[0] * self.grid_hw[1]

    @property
    def num_tokens(self) -> int:
        return len(self.in_domains) * self.tokens_per_modality

    @property
    def makes_visible_only(self) -> bool:
        """Only visible tokens are made, in one product. If more are visible than a modality has, it costs too much."""
        return self.lean and self.num_encoded_tokens <= self.tokens_per_modality

    @property
    def outputs(self) -> tuple[str, ...]:
        """Decoders in the order in which their weights are stacked."""
        return (*self.out_domains, NORM_RGB) if self.extra_norm_pix_loss else self.out_domains

    @property
    def domains(self) -> tuple[str, ...]:
        """Every modality that a batch must hold: inputs, then outputs that are not inputs."""
        return (*self.in_domains, *(name for name in self.out_domains if name not in self.in_domains))

    @property
    def alphas_m(self) -> tuple[float, ...]:
        """One concentration a modality."""
        if isinstance(self.alphas, tuple):
            return self.alphas
        return (self.alphas,) * len(self.in_domains)

    @property
    def variant(self) -> Variant:
        return VARIANTS[self.size]


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """How long, how fast, with what randomness."""

    max_steps: Positive = _explicit(1000)
    """Optimiser steps of the whole schedule."""
    stop_at: Positive | None = _free(None)
    """Save and stop at this step; the schedule stays that of `max_steps`."""
    global_batch: Positive = 256
    """Tiles of an optimiser step over all ranks; sets the learning rate, fixed for a run."""
    micro_batch: Positive = _free(64)
    """The most tiles that a rank runs at once. Accumulation follows from it and the number of ranks."""
    seed: Seed = 0
    """Draws initial weights, the order of tiles, crops, flips and masks."""
    data_seed: Seed | None = field(default=None, metadata={"resume": Resume.NEW_RUN})
    """Draws the order of training tiles, their crops, flips and masks instead of `seed`; null takes `seed`. With
    another one a run goes on from a checkpoint with other tiles."""
    schedule: Literal["cosine", "wsd"] = _explicit("cosine")
    """After the warm-up `cosine` falls to `min_lr` over all steps; `wsd` keeps the peak and falls at the end only."""
    decay_share: Annotated[float, Field(ge=0, le=1)] = _explicit(0.1)
    """`wsd`: share of `max_steps`, at the end, in which the learning rate falls to `min_lr`; 0 never falls."""
    decay_shape: Literal["linear", "1-sqrt"] = _explicit("1-sqrt")
    """`wsd`: the fall is a straight line, or one minus the square root of its progress."""
    blr: Rate = _explicit(1e-4)
    """Learning rate for 256 tiles: lr = blr x global_batch / 256."""
    min_lr: Rate = _explicit(0.0)
    """Learning rate at the end of the schedule."""
    warmup_steps: Count = _explicit(0)
    """Steps in which the learning rate rises from 0."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW for all parameters; or `muon` for the matrices of encoder and decoder blocks, and AdamW for the others, at
    ZeRO stages 0 to 2 (`mmae/engine/README.md`)."""
    weight_decay: Rate = _explicit(0.05)
    """Weight decay of matrices."""
    opt_betas: tuple[Rate, Rate] = _explicit((0.9, 0.95))
    """AdamW's two betas."""
    frozen: tuple[str, ...] | None = None
    """Parts of the model that do not learn, by name: `[encoder]`, `[tokenizer,encoder.blocks.[0-5]]`; null freezes none
    (`mmae/engine/README.md`)."""
    lr_multipliers: dict[str, float] | None = _explicit(None)
    """Factors of the learning rate of parts of the model, by name: `{encoder:0.1}`; a part that several name has the
    product. null changes none."""
    clip_grad: Rate = _explicit(1.0)
    """Largest norm of the gradient; 0 never clips."""
    ema: Positive | None = _explicit(None)
    """Half-life, in tiles, of an average of the weights, which is validated beside them and exported by `--ema`; null
    keeps none."""
    precision: Literal["bf16", "fp16", "fp32"] | None = _free(None)
    """Number format, whatever the DeepSpeed JSON says; null takes that of the JSON."""
    grad_accumulation_dtype: Literal["fp32"] | None = _free(None)
    """Number format in which the gradients of several micro-batches add up, at ZeRO-2 and 3; null takes that of the
    JSON, or else the weights'."""
    activation_checkpointing: Literal["none", "selective", "full"] = _free("none")
    """Recomputation, what the backward pass computes again: `none`; `selective`, all but matrix products and attention;
    `full`, whole blocks."""
    checkpoint_blocks_every: Positive = _free(1)
    """Recompute only every n-th encoder and decoder block."""
    max_bad_steps: Positive = _free(10)
    """This number of steps in a row without an update (loss or gradient not finite, or above `skip_grad_norm`) ends the
    run."""
    skip_grad_norm: Weight | None = _explicit(None)
    """Leave out the update of a step whose gradient's norm, before clipping, is above this."""
    max_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = _free(None)
    """Save and stop after this number of hours, counted from this start's beginning."""
    rank_timeout: Annotated[float, Field(ge=1, allow_inf_nan=False)] = _free(120.0)
    """Seconds without progress after which a rank that the others wait for ends the job."""
    direct_gradients: bool = _free(True)
    """One rank at ZeRO-1 or 2 copies gradients straight to the optimiser, which clips them; `false` leaves that to
    DeepSpeed, which copies them four times."""
    prepare_ahead: bool = _free(True)
    """Crop, normalise and mask the next step's tiles while the device works on the present step."""
    compile: bool = _free(False)
    """Compile tokenizer, encoder blocks, decoders and losses (at ZeRO stage 3 blocks and losses) with `torch.compile`.
    It pays on GPUs."""
    float8: Literal["tensorwise", "emulated"] | None = _free(None)
    """Multiply in float8 in the linear layers of the encoder's blocks: `tensorwise` on newer GPUs; `emulated` rounds to
    the same numbers anywhere, to study them; null does not. No GPU has measured it yet (`mmae/engine/README.md`)."""
    cuda_graphs: bool = _free(False)
    """Replay the forward and backward pass of a micro-batch as CUDA graphs, at ZeRO stages 0 to 2: the host then starts
    two pieces of work instead of thousands. No GPU has measured it yet (`mmae/engine/README.md`)."""
    profile: Annotated[str, Field(pattern=r"^[0-9]+:[0-9]+$")] | None = _free(None)
    """`a:b` writes a trace of steps a to b of rank 0 into the run folder's profile/."""

    @property
    def profiled(self) -> tuple[int, int] | None:
        """First and last step to profile."""
        if self.profile is None:
            return None
        first, last = self.profile.split(":")
        return int(first), int(last)

    @property
    def lr(self) -> float:
        return self.blr * self.global_batch / 256

    @property
    def decay_steps(self) -> int:
        """Steps at the end of `wsd` in which the learning rate falls."""
        return round(self.decay_share * self.max_steps)

    @property
    def tiles_seed(self) -> int:
        """The seed of the order of training tiles, and of what is drawn for each of them."""
        return self.seed if self.data_seed is None else self.data_seed


@dataclass(frozen=True, config=_STRICT)
class ValConfig:
    """Validation on the whole `val` split, with the same masks every time."""

    every: Count = _free(0)
    """Steps between validations; 0 validates at the end only."""


@dataclass(frozen=True, config=_STRICT)
class EvalConfig:
    """Probes of the encoder while it trains, on a small choice of tiles that never changes."""

    every: Count = _free(0)
    """Steps between probes of the encoder; 0 makes none. The last step is probed, too."""
    tasks: tuple[str, ...] = _free(("biome",))
    """What the probes predict from the encoder's features, such as biome or elevation (`mmae/engine/README.md`)."""
    tiles: Positive = _free(512)
    """The most tiles that the probes read."""
    seed: Seed = _free(0)
    """Draws these tiles."""
    averaged: bool = _free(False)
    """Also probe the averaged weights (`train.ema`), at twice the cost."""

    @property
    def protocol(self) -> str:
        """Scores of the same task under the same protocol can be compared."""
        return f"{self.tiles} tiles, seed {self.seed}"


@dataclass(frozen=True, config=_STRICT)
class CheckpointConfig:
    every: Positive = _free(1000)
    """Steps between checkpoints; one is always written where training stops."""
    keep_last: Positive = _free(3)
    """This number of the newest checkpoints stays; the one that this start resumed from stays too."""
    keep_every: Count = _free(0)
    """Checkpoints of steps that are multiples of this stay for ever; 0 keeps none."""
    keep_best: str | None = _free(None)
    """The checkpoint with the best of this score stays, too, and a new best is saved at once: `eval.TASK`, `val.loss`,
    `val.loss.OUTPUT`, `val.iou.OUTPUT` or `val.rmse.OUTPUT`; `ema.` before it takes that of the averaged weights."""
    asynchronous: bool = _free(False)
    """Hold a checkpoint in the host's memory and write it while training goes on."""
    verify_hashes: bool = _free(True)
    """Read every byte of a checkpoint before resuming from it; otherwise check names and sizes only."""


@dataclass(frozen=True, config=_STRICT)
class TrackersConfig:
    """Where the records of any run go, beside log.jsonl."""

    every: Positive = _free(10)
    """Steps between records of log.jsonl."""
    verbose: bool = _free(False)
    """Also show on the screen what libraries print; the run folder's logs/ hold it in any case."""
    wandb: bool = _free(True)
    """Also log to Weights & Biases: offline in the run folder where no key is set."""
    wandb_project: str = _free("mmae")
    """Project in Weights & Biases."""
    wandb_entity: str | None = _free(None)
    """User or team that owns the project; null is the account's default."""
    wandb_name: str | None = _free(None)
    """Name of the run there; null lets Weights & Biases choose one."""
    wandb_group: str | None = _free(None)
    """Group of the run there; null is the name of the run's folder."""
    wandb_tags: tuple[str, ...] = _free(())
    """Tags of the run there."""
    tensorboard: bool = _free(False)
    """Also log to TensorBoard, in the run folder's tensorboard/."""


@dataclass(frozen=True, config=_STRICT)
class LogConfig(TrackersConfig):
    """Records of a training."""

    samples: bool = _free(False)
    """Also write samples_rankR.jsonl: each step's source rows, random keys, and a hash of each tile's sample."""
    pictures: Count = _free(4)
    """Tiles of the `val` split that each validation draws into pictures/step_N.png; 0 draws none."""


@dataclass(frozen=True, config=_STRICT)
class Config:
    """A whole run."""

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    val: ValConfig = field(default_factory=ValConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)


Flat = dict[str, Any]
COMMAND_LINE: Final = "command line"
"""Where a value comes from, in messages: not from a file."""


class Tracked(Protocol):
    """What logs and trackers need to know of a configuration, which is a dataclass of sections."""

    @property
    def run(self) -> RunConfig: ...

    @property
    def train(self) -> Scheduled: ...

    @property
    def log(self) -> TrackersConfig: ...


class Scheduled(Protocol):
    """A section that says how many steps there will be."""

    @property
    def max_steps(self) -> int: ...


def flatten(config: Any) -> Flat:
    """Dotted key -> value of a dataclass of sections, plain types only."""
    return {
        f"{section}.{key}": list(value) if isinstance(value, tuple) else value
        for section, values in asdict(config).items()
        for key, value in values.items()
    }


def resume_policy(root: Any = Config) -> dict[str, Resume]:
    """Dotted key -> what resuming may do with a differing value."""
    return {
        f"{section.name}.{key.name}": key.metadata.get("resume", Resume.FIXED)
        for section in section_fields(root)
        for key in fields(section_type(section.name, root))
    }


def section_fields(root: Any = Config) -> tuple[DataclassField[Any], ...]:
    """The sections of a configuration's dataclass."""
    return fields(root)


def section_type(name: str, root: Any = Config) -> Any:
    section = get_type_hints(root)[name]
    assert is_dataclass(section)
    return section
