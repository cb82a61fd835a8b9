"""Messages about addresses that cannot be used."""

from __future__ import annotations

import pytest

from mmae.addresses import one_line
from mmae.data.remote.open_remote import open_remote
from mmae.data.remote.transport import Patience
from mmae.errors import InputError


@pytest.mark.parametrize(
    "location", ["https://me:pa55word@ho\u2100st/set?s1gned", "https://me:pa55word@[host/set?s1gned"]
)
def test_an_invalid_address_is_refused_without_its_secrets(location: str) -> None:
    with pytest.raises(InputError, match=r"data\.shards: not an address") as refused:
        open_remote(location, Patience())
    assert "pa55word" not in str(refused.value)
    assert "s1gned" not in str(refused.value)


def test_only_the_last_line_of_a_programs_output_is_reported() -> None:
    said = (
        "Traceback\n  GET https://me:pa55word@host/a?s1gned\nError: https://me:pa55word@host/a?s1gned, t0ken refused\n"
    )
    assert one_line(said, ["t0ken"]) == "Error: https://***@host/a?***, *** refused"
    assert one_line("") == ""
    assert len(one_line("x" * 1000)) == 200
