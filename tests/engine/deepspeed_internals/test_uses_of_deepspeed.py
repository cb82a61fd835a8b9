"""What mmae uses of DeepSpeed's internals is there in the installed version.

A failure after an upgrade names the attribute that has changed and the function of `mmae.engine.deepspeed_internals`
that stands on it.
"""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from typing import Any

import deepspeed
import pytest
from deepspeed.runtime.engine import DeepSpeedEngine

from mmae.engine.deepspeed_internals import NEXT_UNTESTED, OLDEST, untested_version
from mmae.engine.engine_protocol import Engine
from tests.support.paths import ROOT

OURS = ROOT / "mmae" / "engine" / "deepspeed_internals"
ENGINE = "deepspeed.runtime.engine:DeepSpeedEngine"
STAGE_1_2 = "deepspeed.runtime.zero.stage_1_and_2:DeepSpeedZeroOptimizer"
STAGE_3 = "deepspeed.runtime.zero.stage3:DeepSpeedZeroOptimizer_Stage3"
FUSED = "deepspeed.runtime.fp16.fused_optimizer:FP16_Optimizer"
UNFUSED = "deepspeed.runtime.fp16.unfused_optimizer:FP16_UnfusedOptimizer"
WRITER = "deepspeed.runtime.checkpoint_engine.checkpoint_engine:CheckpointEngine"

METHODS = [
    ("replace_norm", STAGE_1_2, "get_grad_norm_direct", "gradients params norm_type"),
    ("replace_norm", STAGE_1_2, "has_overflow", "partition_gradients"),
    ("hand_over_gradients", STAGE_1_2, "process_gradients", "param i"),
    ("hand_over_gradients", STAGE_1_2, "reduce_gradients", "pipeline_parallel"),
    ("hand_over_gradients", STAGE_1_2, "overlapping_partition_gradients_reduce_epilogue", ""),
    ("hand_over_gradients", STAGE_1_2, "unscale_and_clip_grads", "grad_groups_flat total_norm"),
    ("hand_over_gradients", STAGE_1_2, "_get_preflattened_grad_partition", "group_idx"),
    ("watch_norm", STAGE_1_2, "scaled_global_norm", "norm_type"),
    ("watch_norm", STAGE_3, "_get_norm_groups", ""),
    ("watch_norm", FUSED, "unscale_and_clip_grads", "grad_groups_flat total_norm apply_scale"),
    ("watch_norm", UNFUSED, "unscale_and_clip_grads", "total_norm apply_scale"),
    ("link_moments", STAGE_1_2, "_lazy_init_hp_params_optimizer_state", ""),
    ("master_place", STAGE_3, "get_param_id", "param"),
    ("undo_first_step", UNFUSED, "refresh_fp32_params", ""),
    ("leave_out_clipping", ENGINE, "clip_fp32_gradients", ""),
    ("replace_writer", ENGINE, "_copy_recovery_script", "save_path"),
    ("end_failed_save", STAGE_3, "checkpoint_event_epilogue", ""),
    ("WriterInterface", WRITER, "create", "info"),
    ("grow_scale_after_steps", STAGE_1_2, "_update_scale", "has_overflow"),
    ("grow_scale_after_steps", STAGE_3, "_update_scale", "has_overflow"),
    ("grow_scale_after_steps", UNFUSED, "_update_scale", "skip"),
    ("scale_loss_at_stage_0", ENGINE, "backward", "loss retain_graph scale_wrt_gas"),
    ("WriterInterface", WRITER, "save", "state_dict path"),
    ("WriterInterface", WRITER, "makedirs", "path exist_ok"),
    ("WriterInterface", WRITER, "load", "path map_location"),
    ("WriterInterface", WRITER, "commit", "info"),
]
"""Function of ours, DeepSpeed's class, its method, and that method's parameters."""

ATTRIBUTES = [
    ("replace_norm", STAGE_1_2, "dp_process_group"),
    ("replace_norm", STAGE_1_2, "cpu_offload"),
    ("replace_norm", STAGE_1_2, "device"),
    ("hand_over_gradients", STAGE_1_2, "use_separate_grad_accum"),
    ("hand_over_gradients", STAGE_1_2, "averaged_gradients[i]"),
    ("hand_over_gradients", STAGE_1_2, "round_robin_bit16_groups"),
    ("hand_over_gradients", STAGE_1_2, "round_robin_bit16_offsets"),
    ("hand_over_gradients", STAGE_1_2, "partition_size"),
    ("hand_over_gradients", STAGE_1_2, "clip_grad"),
    ("link_moments", STAGE_1_2, "_hp_optimizer_states_linked"),
    ("stage_0_master", UNFUSED, "fp16_groups"),
    ("stage_0_master", UNFUSED, "fp32_groups"),
    ("master_flats", STAGE_3, "fp32_partitioned_groups_flat"),
    ("master_place", STAGE_3, "grad_position"),
    ("grow_scale_after_steps", STAGE_1_2, "overflow"),
    ("grow_scale_after_steps", STAGE_3, "overflow"),
    ("grow_scale_after_steps", UNFUSED, "overflow"),
    ("scale_loss_at_stage_0", UNFUSED, "_global_grad_norm"),
    ("loss_scale", FUSED, "loss_scale_config"),
    ("loss_scale", UNFUSED, "loss_scale_config"),
    ("report_norm", ENGINE, "optimizer._global_grad_norm"),
    ("replace_writer", ENGINE, "checkpoint_engine"),
    ("set_counts", ENGINE, "global_steps"),
    ("set_counts", ENGINE, "micro_steps"),
    ("set_counts", ENGINE, "global_samples"),
    ("set_counts", ENGINE, "skipped_steps"),
]
"""Function of ours, DeepSpeed's class, and what its objects have."""

MARKS = [
    ("replace_norm", "deepspeed.runtime.zero.stage_1_and_2", "_zero_padding"),
    ("hand_over_gradients", "deepspeed.runtime.zero.stage_1_and_2", "flat_partition"),
    ("is_sharded", "deepspeed.runtime.zero.partition_parameters", "ds_id"),
    ("whole_shape", "deepspeed.runtime.zero.partition_parameters", "ds_shape"),
    ("has_master_part", "deepspeed.utils.tensor_fragment", "_hp_mapping"),
    ("master_place", "deepspeed.utils.tensor_fragment", "param_group_index"),
    ("master_place", "deepspeed.utils.tensor_fragment", "hp_fragment_address"),
    ("master_place", "deepspeed.utils.tensor_fragment", "lp_fragment_address"),
    ("MasterPlace", "deepspeed.runtime.zero.stage3", "grad_position"),
    ("loss_scale", "deepspeed.runtime.fp16.loss_scaler", "cur_scale"),
]
"""Function of ours, DeepSpeed's module, and what it marks tensors and configurations with."""


def named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name) if name else import_module(module)


def parameters_of(place: str, name: str) -> str | None:
    """A method's parameters, read from the source: DeepSpeed's decorators hide them. None without such a method."""
    for node in ast.walk(ast.parse(inspect.getsource(named(place)))):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return " ".join(each.arg for each in node.args.args[1:])
    return None


@pytest.mark.parametrize(("ours", "place", "name", "parameters"), METHODS)
def test_a_method_has_the_signature_that_was_written_for(ours: str, place: str, name: str, parameters: str) -> None:
    found = parameters_of(place, name)
    assert found is not None, f"{place}.{name} is gone, which {ours} needs: deepspeed {deepspeed.__version__}"
    assert found == parameters, f"{place}.{name} has other parameters: see {ours}"


@pytest.mark.parametrize(("ours", "place", "name"), ATTRIBUTES)
def test_an_attribute_is_still_used(ours: str, place: str, name: str) -> None:
    assert f"self.{name}" in inspect.getsource(named(place)), f"{place} has no {name}, which {ours} needs"


@pytest.mark.parametrize(("ours", "place", "name"), MARKS)
def test_a_mark_is_still_made(ours: str, place: str, name: str) -> None:
    assert re.search(rf"\b{name}\b", inspect.getsource(named(place))), f"{place} has no {name}, which {ours} needs"


def own_functions() -> dict[str, str]:
    nodes = [node for path in OURS.glob("*.py") for node in ast.parse(path.read_text(encoding="utf-8")).body]
    return {node.name: ast.get_docstring(node) or "" for node in nodes
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")}  # fmt: skip


def test_every_function_says_its_version_and_stands_in_a_table() -> None:
    functions = own_functions()
    del functions["untested_version"]
    assert [name for name, text in functions.items() if "Written for deepspeed 0.19.8" not in text] == []
    # `gathered` uses DeepSpeed's public context, with an answer of `is_sharded`.
    assert functions.keys() - {"gathered"} == {row[0] for row in (*METHODS, *ATTRIBUTES, *MARKS)}


def test_nothing_else_reaches_into_deepspeed() -> None:
    """The marks and private names of the tables occur in no other module."""
    private = {row[2].rpartition(".")[2] for row in (*METHODS, *ATTRIBUTES, *MARKS)}
    private = {name for name in private if name.startswith(("_", "ds_"))}
    assert "_hp_mapping" in private
    others = [path for path in (ROOT / "mmae").rglob("*.py") if path.parent != OURS]
    found = [(path.name, name) for path in others for name in private
             if re.search(rf"""[."']{name}\b""", path.read_text(encoding="utf-8"))]  # fmt: skip
    assert found == []


def test_deepspeed_s_engine_has_all_that_ours_is_typed_with() -> None:
    source = inspect.getsource(DeepSpeedEngine)
    attributes = set(Engine.__annotations__) - {"training"}
    assert [name for name in attributes if not re.search(rf"""self\.(__dict__\[['"])?{name}\b""", source)] == []
    methods = [name for name, value in vars(Engine).items() if inspect.isfunction(value) and not name.startswith("_")]
    assert "step" in methods
    assert [name for name in methods if not hasattr(DeepSpeedEngine, name)] == []
    for name in ("backward", "save_checkpoint", "load_checkpoint"):
        used = set(inspect.signature(getattr(Engine, name)).parameters) - {"self"}
        assert used <= set((parameters_of(ENGINE, name) or "").split()), name


@pytest.mark.parametrize("version", ["0.19.4", "0.19.8", "0.19.10", "0.19.8+cu12", deepspeed.__version__])
def test_a_tested_version_gives_no_line(version: str) -> None:
    assert untested_version(version) is None


@pytest.mark.parametrize("version", ["0.19.3", "0.18.9", "0.20.0", "0.20.0rc1", "0.20", "1.0.0", "0.21.0+abc", ""])
def test_an_untested_version_gives_one_line(version: str) -> None:
    line = untested_version(version)
    assert line is not None
    assert f"deepspeed {version}," in line
    assert '"deepspeed>=0.19.4,<0.20"' in line
    assert "\n" not in line


def test_installing_keeps_to_the_tested_versions() -> None:
    oldest, newest = (".".join(map(str, version)) for version in (OLDEST, NEXT_UNTESTED))
    assert f'"deepspeed>={oldest},<{newest}"' in (ROOT / "setup.py").read_text(encoding="utf-8")
