from __future__ import annotations

import pytest

from mmae.errors import InputError
from mmae.plan.amounts import bytes_of, count_of, share_of


@pytest.mark.parametrize(
    ("text", "amount"), [("80GB", 80 * 10**9), ("40 GiB", 40 * 2**30), ("0.5TB", 5 * 10**11), ("512MiB", 2**29)]
)
def test_memory(text: str, amount: int) -> None:
    assert bytes_of(text, "--gpu-memory") == amount


@pytest.mark.parametrize("text", ["", "80", "80gb", "-80GB", "GB", "0GB", "1e3GB", "nanGB", "80GBs", "٨GB"])
def test_no_memory(text: str) -> None:
    with pytest.raises(InputError, match=r"--gpu-memory .*: give an amount of memory, such as 80GB"):
        bytes_of(text, "--gpu-memory")


@pytest.mark.parametrize(("text", "count"), [("1.2M", 1_200_000), ("300", 300), ("5k", 5000)])
def test_counts(text: str, count: int) -> None:
    assert count_of(text, "--tiles") == count


@pytest.mark.parametrize("text", ["", "0", "many", "1.2MB", "-1", "0.1"])
def test_no_counts(text: str) -> None:
    with pytest.raises(InputError, match=r"--tiles .*: give a number, such as"):
        count_of(text, "--tiles")


def test_shares() -> None:
    assert share_of("0.35", "--mfu") == 0.35
    for text in ("0", "35", "nan", "inf", "x", "-0.1"):
        with pytest.raises(InputError, match=r"--mfu .*: give a share"):
            share_of(text, "--mfu")
