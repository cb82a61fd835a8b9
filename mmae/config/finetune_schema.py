"""What a fine-tuning is: frozen dataclasses, as those of a training in `schema.py`, with the same names for the same.

Each field says what resuming may do with it (`Resume`): a field is fixed unless it says otherwise.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mmae.config.schema import Count, DataConfig, Place, Positive, Rate, Resume, RunConfig, Seed, TrackersConfig

Share = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, lt=1)]

SourceKind = Literal["shards", "geobench1", "mmearth-bench", "geotiffs", "torchgeo"]
TaskKind = Literal["classification", "multilabel", "segmentation", "regression", "pixel_regression"]
HeadKind = Literal["linear", "attention", "patch_linear", "upernet", "convnext", "dpt"]


def _free(default: Any) -> Any:
    return field(default=default, metadata={"resume": Resume.FREE})


def _explicit(default: Any) -> Any:
    return field(default=default, metadata={"resume": Resume.EXPLICIT})


_STRICT: Final = ConfigDict(extra="forbid", validate_default=True)


@dataclass(frozen=True, config=_STRICT)
class TuneDataConfig:
    """Which tiles, and how each becomes a sample."""

    shards: Place = _free("")
    """Where the shards lie that `mmae repack` wrote: a folder or an address. They may move."""
    val_split: str = "val"
    """The split that chooses (best step, search)."""
    test_split: str | None = "test"
    """The split that is scored once, at the end; null scores none."""
    val_fraction: Part | None = None
    """Take this share of the split `train` for choosing instead of `data.val_split`, by blocks of ground."""
    test_fraction: Part | None = None
    """Take this share of the split `train` as the test instead of `data.test_split`, by blocks of ground."""
    block_km: Annotated[float, Field(gt=0, le=5000)] = 1.0
    """Side of these blocks. Training tiles that share ground with a tile that was taken out are left out."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Train on this share of the training tiles: those of 0.05 are among those of 0.1, with the same `data.seed`."""
    seed: Seed = 0
    """Draws the blocks and the share, whatever `train.seed` is: seeds of training see the same tiles."""
    band_stats: Place | None = _free(None)
    """JSON file to normalise with instead of the pretrained model's statistics, or (from scratch) those of the set."""
    normalise: Literal["auto", "model", "data"] = "auto"
    """By the statistics of the pretrained `model`, or of the `data`; auto: the model's, where there are such and the
    images have MMEarth's units. `data.band_stats` goes before it."""
    check_units: bool = _free(True)
    """Compare a sample of tiles with the band statistics before training: scale, offset, level, order of bands."""
    cache_dir: Place | None = _free(None)
    """Folder on this machine for shards that are fetched over the network."""
    cache_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = _free(100.0)
    """Most disk space, in GB, that fetched shards may take there."""
    crop: Literal["random", "resize"] = "random"
    """How a tile is brought to `model.input_size`: a random crop, or a resize of the whole tile."""
    flip: Literal["none", "horizontal", "dihedral"] = "dihedral"
    """`none`; `horizontal`, left-right for half of the tiles; `dihedral`, all eight flips and turns, labels too."""
    workers: Count = _free(2)
    """Loader processes a rank, at most 128; 0 reads in the training process."""
    prefetch: Positive = _free(4)
    """Micro-batches that each worker reads ahead, at most 1024."""

    @property
    def locations(self) -> tuple[str, ...]:
        """Where the shards lie; empty where that is not said."""
        return (self.shards,) if self.shards else ()

    @property
    def loading(self) -> DataConfig:
        """The keys that the loader of `mmae train` knows."""
        return DataConfig(
            shards=self.shards,
            cache_dir=self.cache_dir,
            cache_gb=self.cache_gb,
            crop=self.crop,
            flip=self.flip,
            workers=self.workers,
            prefetch=self.prefetch,
        )


@dataclass(frozen=True, config=_STRICT)
class SourceConfig:
    """Labelled tiles that are not in shards: where they lie, and what their files do not say."""

    kind: SourceKind = "shards"
    """`shards`, which `data.shards` names; a task of `geobench1` or `mmearth-bench`; `geotiffs`, a folder of images; or
    a data set of `torchgeo`."""
    folder: Place | None = _free(None)
    """The folder of the suite, of the images, or of TorchGeo's data set."""
    task: str | None = None
    """A task of the suite, such as `m-eurosat`; a class of `torchgeo.datasets`, such as `EuroSAT`; of GeoTIFFs a name
    for what is predicted."""
    partition: str = "default"
    """Part of the suite's training samples, such as `0.10x_train` or `5%`."""
    masks: Place | None = _free(None)
    """GeoTIFFs: the folder of masks, each with the name of its image."""
    tile: Positive | None = None
    """GeoTIFFs: cut images and masks into tiles of this side in pixels; null: each image is one tile."""
    classes: tuple[str, ...] | None = None
    """Classes of masks, as `[0:other,1:water]`; null: the numbers that the masks hold. Also for masks in shards."""
    ignore: tuple[int, ...] = ()
    """Numbers in masks that are no class and are not scored, as `[255]`. Also for masks in shards."""
    bands: tuple[str, ...] | None = None
    """Names of the images' bands in their order, `-` for one that is not read; null: as the files say."""
    level: Literal["l1c", "l2a"] | None = None
    """Level of Sentinel-2 images, where the source does not say it or says it wrongly."""
    units: Literal["dn", "reflectance", "linear", "picture"] | None = None
    """Units of the images: null or `dn`, those of MMEarth; `reflectance` from 0 to 1; `linear` radar power; `picture`,
    numbers without a scale, which are normalised by themselves."""
    offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Is added to Sentinel-2's digital numbers: -1000 for products since January 2022."""
    options: tuple[str, ...] = ()
    """Arguments of TorchGeo's class, as `[num_classes=19,bands=B04;B03;B02]`: a value with `;` is a list."""

    @property
    def is_shards(self) -> bool:
        """Whether the tiles come from `data.shards`."""
        return self.kind == "shards"


@dataclass(frozen=True, config=_STRICT)
class TuneModelConfig:
    """What the fine-tuning starts from, and the head."""

    init_from: str | None = None
    """A model folder, a run, `owner/name` on the hub, or a published checkpoint's file; `none` starts from scratch."""
    size: str = "base"
    """The encoder's size where it starts from scratch (`mmae/variants.py`)."""
    in_domains: tuple[str, ...] | None = None
    """Input modalities, any of the pretrained model's; null takes all but the target."""
    bands: tuple[str, ...] | None = None
    """Bands of inputs, as `[rgb:B4,rgb:B3,rgb:B8]`; an input without any has its usual ones. Kernels follow."""
    input_size: Positive | tuple[Positive, Positive] | None = None
    """Pixels of an image; null takes whole tiles, down to a multiple of the patch size."""
    patch_size: Positive | None = None
    """Side of a patch in image pixels; null keeps the pretrained model's."""
    tuning: Literal["full", "frozen", "lora"] = "full"
    """What is trained besides the head: the whole encoder, nothing, or low-rank additions to its linear layers."""
    lora_rank: Positive = 8
    """Rank of these additions."""
    lora_alpha: Annotated[float, Field(gt=0)] = 16.0
    """They are scaled by alpha / rank."""
    head: HeadKind | None = None
    """`linear` or `attention` for a label a tile; `patch_linear`, `upernet`, `convnext` or `dpt` for a map. null: the
    linear one."""
    pooling: Literal["mean", "global"] = "mean"
    """What a linear head sees: the mean of all patches, or the global tokens."""
    blocks: tuple[int, ...] | None = None
    """Encoder blocks whose outputs the head sees; null: the last, or four for upernet and dpt."""
    head_width: Positive | None = None
    """Width of the head; null: its own."""
    drop_path: Share = 0.1
    """Stochastic depth: chance that a tile skips the last encoder block in training; it grows from 0 with depth."""

    @property
    def bands_of(self) -> dict[str, tuple[str, ...]]:
        """Modality -> its bands, for those that `bands` names."""
        found: dict[str, tuple[str, ...]] = {}
        for word in self.bands or ():
            name, _, band = word.partition(":")
            found[name] = (*found.get(name, ()), band)
        return found


@dataclass(frozen=True, config=_STRICT)
class TaskConfig:
    """What is predicted, and how it is scored."""

    kind: TaskKind = "classification"
    """`classification`, `multilabel` and `regression` of tiles; `segmentation` and `pixel_regression` of pixels."""
    target: str = ""
    """What is predicted: a modality, dataset or label of the shards (`esa_worldcover`, `biome`, `elevation`, ...), or a
    name for the labels of `task.labels`. It is never an input."""
    labels: Place | None = _free(None)
    """CSV or Parquet file of labels: columns `tile_id`, `label` (or one a class or target), and perhaps `split`."""
    least_share: Part = 0.01
    """`multilabel` from a map: a class counts as present where it covers at least this share of the pixels."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs each class by the inverse of its share of the training labels."""
    label_smoothing: Share = 0.0
    """This share of a label is spread over all classes."""
    regression_loss: Literal["l1", "l2", "berhu"] = "l2"
    """Loss of a regression, on standardised targets."""


@dataclass(frozen=True, config=_STRICT)
class TuneTrainConfig:
    """How long, how fast, with what randomness."""

    max_steps: Positive = _explicit(500)
    """Optimiser steps of the whole schedule."""
    stop_at: Positive | None = _free(None)
    """Save and stop at this step; the schedule stays that of `max_steps`."""
    global_batch: Positive = 64
    """Tiles of an optimiser step over all ranks; sets the learning rate, fixed for a run."""
    micro_batch: Positive = _free(64)
    """The most tiles that a rank runs at once. Accumulation follows from it and the number of ranks."""
    seed: Seed = 0
    """Draws the head, the order of tiles, crops, flips, mixing and stochastic depth."""
    blr: Rate = _explicit(5e-4)
    """Learning rate for 256 tiles: lr = blr x global_batch / 256. It is the head's."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Each encoder block learns with the rate of the block above it times this."""
    min_lr: Rate = _explicit(0.0)
    """Learning rate at the end of the cosine schedule."""
    warmup_steps: Count = _explicit(20)
    """Steps in which the learning rate rises from 0."""
    weight_decay: Rate = _explicit(0.05)
    """AdamW's weight decay."""
    opt_betas: tuple[Rate, Rate] = _explicit((0.9, 0.999))
    """AdamW's two betas."""
    clip_grad: Rate = _explicit(1.0)
    """Largest norm of the gradient; 0 never clips."""
    precision: Literal["bf16", "fp32"] = _free("fp32")
    """Number format of the forward and backward pass; weights and optimiser are float32."""
    mixup: Rate = 0.0
    """Mix two tiles and their labels, with a share from Beta(a, a); 0 mixes none. Not for maps."""
    cutmix: Rate = 0.0
    """Paste a rectangle of another tile, with its label or its part of the map; its size is drawn as in mixup."""
    random_erase: Share = 0.0
    """Chance that a rectangle of a tile's inputs is erased."""
    ema: Share = 0.0
    """Keep an exponential average of the weights with this decay, and score that; 0 keeps none."""
    max_bad_steps: Positive = _free(10)
    """This number of steps in a row whose loss or gradient is not finite ends the run."""
    max_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = _free(None)
    """Save and stop after this number of hours, counted from this start's beginning."""
    rank_timeout: Annotated[float, Field(ge=1, allow_inf_nan=False)] = _free(120.0)
    """Seconds without progress after which a rank that the others wait for ends the job."""

    @property
    def lr(self) -> float:
        return self.blr * self.global_batch / 256


@dataclass(frozen=True, config=_STRICT)
class TuneValConfig:
    """Validation on the whole of `data.val_split`."""

    every: Count = 50
    """Steps between validations; 0 validates at the end only."""
    patience: Positive | None = None
    """Stop after this number of validations in a row without a better score; null never does."""


@dataclass(frozen=True, config=_STRICT)
class TuneCheckpointConfig:
    every: Positive = _free(100)
    """Steps between checkpoints; one is always written where training stops."""
    keep_last: Positive = _free(1)
    """This number of the newest checkpoints stays."""
    verify_hashes: bool = _free(True)
    """Read every byte of a checkpoint before resuming from it; otherwise check names and sizes only."""


@dataclass(frozen=True, config=_STRICT)
class RepeatConfig:
    """Several trainings with one command."""

    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    """Train with this number of seeds, `train.seed` and those after it, and report the mean of their scores."""
    search: Annotated[int, Field(ge=0, le=64)] = 0
    """First try this number of pairs of learning rate and layer decay, and take the best by `data.val_split`."""


@dataclass(frozen=True, config=_STRICT)
class FinetuneConfig:
    """A whole fine-tuning."""

    run: RunConfig = field(default_factory=lambda: RunConfig(dir="runs/finetune"))
    data: TuneDataConfig = field(default_factory=TuneDataConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    model: TuneModelConfig = field(default_factory=TuneModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    train: TuneTrainConfig = field(default_factory=TuneTrainConfig)
    val: TuneValConfig = field(default_factory=TuneValConfig)
    checkpoint: TuneCheckpointConfig = field(default_factory=TuneCheckpointConfig)
    log: TrackersConfig = field(default_factory=TrackersConfig)
    finetune: RepeatConfig = field(default_factory=RepeatConfig)
