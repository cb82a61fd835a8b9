"""Secrets in values of the command line: they are taken as they were typed, and no message repeats them."""

from __future__ import annotations

import pytest

from mmae.config.recipe_file import load_config
from mmae.errors import InputError

HEADER = "pipe:curl -H 'Authorization: Bearer t0ken' https://host/{}"


def test_a_command_with_a_header_is_taken_as_typed() -> None:
    assert load_config("debug", [f"data.shards={HEADER}"]).data.locations == (HEADER,)


@pytest.mark.parametrize(
    "words",
    [
        ["data.shards=[https://me:t0ken@host/a, https://me:t0ken@host/a]"],
        [f"data.shards={HEADER}", "data.weights=[1, 2]"],
        [f"train.seed={HEADER}"],
        ["train.seed=[https://me:t0ken@host/a"],
    ],
)
def test_what_is_wrong_is_said_without_secrets(words: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        load_config("debug", words)
    assert "t0ken" not in str(refused.value)
