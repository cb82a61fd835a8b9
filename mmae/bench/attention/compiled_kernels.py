"""The kernels compiled for GPUs that are not there: registers, spills and shared memory, as the machine code states."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Final

from mmae.errors import InputError
from mmae.model.short_attention.block_shapes import MOST_TOKENS, MOST_WIDTH, BlockShapes, block_shapes
from mmae.terminal.table import Value

_TYPES: Final = MappingProxyType({"bf16": ("bf16", 2), "fp16": ("fp16", 2), "fp32": ("fp32", 4)})
"""Triton's name of a precision, and bytes of a number."""
_POINTERS: Final = frozenset({"q", "k", "v", "out", "dout", "dq", "dk", "dv"})
_ALIGNED: Final = [["tt.divisibility", 16]]
_SHARED: Final = MappingProxyType({80: 164 << 10, 90: 228 << 10, 100: 228 << 10})
"""Bytes of shared memory in an SM by compute capability (CUDA programming guide, table of technical specifications)."""
_REGISTERS, _THREADS, _PROGRAMS, _WARP = 65_536, 2_048, 32, 32
"""Of an SM of all of them: 32-bit registers, threads, programs; and threads of a warp."""
_TAKEN_WITH: Final = 1 << 10
"""Bytes of shared memory that the system takes for each program; registers are given to warps by 256."""
_REGISTER_UNIT: Final = 256


@dataclass(frozen=True)
class Usage:
    """What a thread takes (registers, spilled bytes), and a program (bytes of shared memory)."""

    registers: int
    spilled: int
    shared: int

    def resident(self, capability: int, warps: int) -> int:
        """Programs that an SM runs at once."""
        warp_registers = -(-self.registers * _WARP // _REGISTER_UNIT) * _REGISTER_UNIT
        return min(
            _REGISTERS // (warp_registers * warps),
            _SHARED[capability] // (self.shared + _TAKEN_WITH),
            _THREADS // (warps * _WARP),
            _PROGRAMS,
        )


def compiled_rows(architectures: list[str], precisions: list[str], widths: list[int]) -> list[dict[str, Value]]:
    """A row for each kernel, by the keys of `command.COMPILED`.

    Args:
        architectures: such as sm_90a.

    Raises:
        InputError: triton is missing or interprets, or a head is wider than the kernels take.
    """
    for width in widths:
        if width > MOST_WIDTH:
            raise InputError(f"--width {width}: heads have at most {MOST_WIDTH} columns")
    if importlib.util.find_spec("triton") is None:
        raise InputError("mmae bench attention needs triton, which is not installed: pip install triton")
    from mmae.model.short_attention import triton_kernels

    if triton_kernels.INTERPRETED:
        raise InputError("TRITON_INTERPRET is set: nothing is compiled while it is")
    kernels = {
        "forward": triton_kernels.short_attention_forward,
        "backward": triton_kernels.short_attention_backward,
    }
    rows: list[dict[str, Value]] = []
    for architecture, precision, width, (name, kernel) in product(architectures, precisions, widths, kernels.items()):
        capability, shapes = _capability(architecture), _shapes(precision, width)
        usage = compiled(kernel, capability, precision, shapes)
        rows.append(
            {
                "architecture": architecture, "precision": precision, "width": width,
                "blocks": f"{shapes.first} + {shapes.rest}" if shapes.rest else f"{shapes.first}",
                "direction": name, "warps": shapes.warps, "registers": usage.registers, "spilled": usage.spilled,
                "shared_kilobytes": usage.shared / 1024, "resident": usage.resident(capability, shapes.warps),
            }
        )  # fmt: skip
    return rows


def _capability(architecture: str) -> int:
    return int(re.sub(r"\D", "", architecture))


def _shapes(precision: str, width: int) -> BlockShapes:
    return block_shapes(MOST_TOKENS, MOST_TOKENS, width, _TYPES[precision][1])


def compiled(kernel: Any, capability: int, precision: str, shapes: BlockShapes) -> Usage:
    """Compile a kernel as its first launch would: addresses and strides are multiples of 16."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: _type(name, _TYPES[precision][0]) for name in kernel.arg_names}
    aligned = {(place,): _ALIGNED for place, name in enumerate(kernel.arg_names)
               if name in _POINTERS or name.endswith(("_sequence", "_row"))}  # fmt: skip
    source = ASTSource(kernel, signature, shapes.constants(interpreted=False), aligned)
    options = {"num_warps": shapes.warps, "num_stages": 1}
    done = triton.compile(source, target=GPUTarget("cuda", capability, _WARP), options=options)
    numbers = dict(_stated(done.asm["cubin"]))
    return Usage(numbers["REG"], numbers["STACK"] + numbers["LOCAL"], done.metadata.shared)


def _type(name: str, number: str) -> str:
    if name in _POINTERS:
        return f"*{number}"
    if name.isupper() or name.replace("_", "").isupper():
        return "constexpr"
    return "fp32" if name == "scale" else "i32"


def _stated(machine_code: bytes) -> Iterator[tuple[str, int]]:
    """What NVIDIA's cuobjdump, which is in Triton's package, reads from machine code. A frame holds spills only."""
    from triton import knobs

    with TemporaryDirectory(prefix="mmae-bench-") as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(machine_code)
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name, number in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text):
        yield name, int(number)
