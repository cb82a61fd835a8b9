"""The options of a published checkpoint. Each one is applied, is known to change no number, or is refused.

They are the options of its training's command line. An option can change the model although no weight shows it. So an
option that is unknown here is refused by its name, unless the user says that it changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from mmae.errors import InputError, did_you_mean
from mmae.modalities import NORM_RGB

TAKEN: Final = (
    "input_size",
    "num_encoded_tokens",
    "alphas",
    "sample_tasks_uniformly",
    "decoder_num_heads",
    "drop_path",
    "loss_on_unmasked",
)
"""Options that no weight shows; each becomes the field of `ModelConfig` with its name."""

BALANCERS: Final = ("none", "uncertainty")

_SHOWN: Final = ("extra_norm_pix_loss", "patch_size", "num_global_tokens", "decoder_dim", "decoder_depth")
_DOMAINS: Final = ("in_domains", "out_domains")
_FIXED: Final = {
    "decoder_use_task_queries": "a decoder's queries always get the embedding of their modality",
    "decoder_use_xattn": "a decoder's queries always attend to the encoder's tokens",
    "standardize_depth": "elevation is always standardised in each tile",
}
"""Options that are always on in this model."""
_INPUTS: Final = ("imagenet_default_mean_and_std",)
"""Options about the normalisation of inputs. A model folder has its band statistics instead."""

_HARMLESS: Final = (
    # The optimiser, its schedule and its arithmetic, which the weights are the result of.
    "batch_size epochs start_epoch opt opt_eps opt_betas momentum weight_decay weight_decay_end decoder_decay "
    "lr blr warmup_lr min_lr warmup_epochs warmup_steps clip_grad skip_grad balancer_lr_scale update_freq accum_iter "
    "seed fp32_output_adapters "
    # Which tiles were used, and how they were read and flipped.
    "all_domains data_path eval_data_path hflip train_interpolation num_workers pin_mem no_pin_mem "
    # Where files are, and which are written.
    "config cfg output_dir log_dir resume auto_resume no_auto_resume save_ckpt_freq show_user_warnings log_wandb "
    "wandb_project wandb_entity wandb_run_name "
    # Devices and processes.
    "device world_size rank local_rank gpu distributed dist_on_itp dist_url dist_backend find_unused_params"
)
"""Options that change neither the meaning of weights nor the loss, whatever their value."""

_ELSEWHERE: Final = ("model", "num_heads", "task_balancer")
KNOWN: Final = frozenset((*TAKEN, *_SHOWN, *_DOMAINS, *_FIXED, *_INPUTS, *_HARMLESS.split(), *_ELSEWHERE))


def check_options(
    path: Path,
    args: Mapping[str, Any],
    shown: Mapping[str, Any],
    balancer: str,
    ignored: Collection[str] = (),
) -> None:
    """Refuse options that contradict the weights, ask for a different model, or are unknown.

    Args:
        path: the file, for messages.
        shown: the settings that the weights show, by their names in `ModelConfig`.
        balancer: `uncertainty` if the file holds log variances, else `none`.
        ignored: unknown options of which the user says that they change no number.

    Raises:
        InputError: an option is refused. The message has its name and value.
    """
    _check_ignored(path, args, ignored)
    for name in args:
        if name not in KNOWN and name not in ignored:
            raise InputError(
                f"{path}: its option {name}={args[name]!r:.80} is unknown, and may change what the weights compute: "
                f"if you know that it changes no number, add --ignore-option {name} to mmae import-published FILE OUT"
            )
    for name, why in _FIXED.items():
        if name in args and not _is_on(args[name]):
            raise InputError(
                f"{path}: its option {name}={args[name]!r:.80} asks for a different model: in this one {why}"
            )
    for name in _SHOWN:
        said = args.get(name)
        if said is not None and said != shown[name]:
            raise InputError(
                f"{path}: its option {name}={said!r:.80} contradicts its weights, which show {shown[name]!r}"
            )
    for name in _DOMAINS:
        said = listed(args.get(name))
        if said is not None and set(said) - {NORM_RGB} != set(shown[name]):
            raise InputError(
                f"{path}: its option {name}={args[name]!r:.80} contradicts its weights, which show "
                f"{', '.join(shown[name])}"
            )
    _check_balancer(path, args.get("task_balancer"), balancer)


def listed(said: Any) -> list[str] | None:
    """The names of modalities in an option, which is a list, or one text with dashes between names, or None.

    A value of another type becomes one name, which no modality has.
    """
    if said is None:
        return None
    if isinstance(said, str):
        return said.split("-")
    if isinstance(said, list | tuple) and all(isinstance(name, str) for name in said):
        return list(said)
    return [repr(said)]


def notes(args: Mapping[str, Any], balancer: str) -> list[str]:
    """One line for each option whose effect a model folder does not have."""
    found = [
        f"{name}={args[name]!r} is not used: inputs are normalised with the band statistics (--band-stats)"
        for name in _INPUTS
        if args.get(name)
    ]
    if args.get("task_balancer") == "uncertainty" and balancer == "none":
        found.append("task_balancer=uncertainty, but the file holds no log variances: they begin at 0")
    return found


def _check_ignored(path: Path, args: Mapping[str, Any], ignored: Collection[str]) -> None:
    for name in ignored:
        if name not in args:
            raise InputError(f"--ignore-option {name}: {path} has no such option{did_you_mean(name, args)}")
        if name in KNOWN:
            raise InputError(f"--ignore-option {name}: mmae knows what this option does, so it cannot be ignored")


def _is_on(value: Any) -> bool:
    return isinstance(value, bool | int) and value == 1


def _check_balancer(path: Path, said: Any, balancer: str) -> None:
    if said is None:
        return
    if said not in BALANCERS:
        raise InputError(f"{path}: its option task_balancer={said!r:.80} is unknown (known: {', '.join(BALANCERS)})")
    if said == "none" and balancer != "none":
        raise InputError(f"{path}: its option task_balancer={said!r} contradicts the log variances that it holds")
