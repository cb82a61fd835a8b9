from __future__ import annotations

from pathlib import Path

import pytest

from mmae.errors import InputError
from mmae.launch.hostfile import meeting_place, read_slots, refuse_ipv6, slots_used

SLOTS = {"a": 2, "b": 8, "c": 1}


def write(folder: Path, text: str) -> Path:
    path = folder / "hosts"
    path.write_text(text)
    return path


def test_hosts_may_have_different_slots(tmp_path: Path) -> None:
    assert read_slots(write(tmp_path, "# ours\n\n a slots=2\nb   slots=8 # new\nme@c slots=1\n")) == {
        "a": 2,
        "b": 8,
        "me@c": 1,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no host"),
        ("# a slots=2\n", "names no host"),
        ("a slots=2\nb slots=x\n", "hosts:2: 'b slots=x' is not NAME slots=N"),
        ("a slots=2 b\n", "hosts:1: .* is not NAME slots=N"),
        ("a;id slots=2\n", "is not a host name"),
    ],
)
def test_a_bad_hostfile_is_named_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read_slots(write(tmp_path, text))


def test_a_missing_hostfile_does_not_mean_a_local_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such hostfile"):
        read_slots(tmp_path / "hosts")


@pytest.mark.parametrize(
    ("include", "exclude", "nodes", "hosts"),
    [
        ("", "", None, "abc"),
        ("c@b:0,7", "", None, "bc"),
        ("", "a", None, "bc"),
        ("", "a:1", None, "abc"),
        ("", "a:0,1", None, "bc"),
        ("", "a:0@a:1", None, "bc"),
        ("", "", 2, "ab"),
    ],
)
def test_the_hosts_that_deepspeed_uses(include: str, exclude: str, nodes: int | None, hosts: str) -> None:
    from deepspeed.launcher.runner import apply_num_nodes_and_gpus, parse_inclusion_exclusion

    assert list(slots_used(SLOTS, include, exclude, nodes)) == list(hosts)
    theirs = apply_num_nodes_and_gpus(parse_inclusion_exclusion(SLOTS, include, exclude), nodes or -1, -1)
    assert list(theirs) == list(hosts)


@pytest.mark.parametrize(
    ("include", "exclude", "nodes", "said"),
    [
        ("a", "b", None, "give one of them"),
        ("a", "", 1, "--num_nodes"),
        ("d", "", None, "has no host 'd'"),
        ("a:2", "", None, "a has slots 0 to 1, not 2"),
        ("a:x", "", None, "are not slots"),
        ("", "a@b@c", None, "leaves no host"),
    ],
)
def test_a_bad_filter_is_refused(include: str, exclude: str, nodes: int | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        slots_used(SLOTS, include, exclude, nodes)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.1", "::1"])
def test_hosts_that_would_look_on_themselves_are_refused(address: str) -> None:
    with pytest.raises(InputError, match=rf"a resolves to {address}, .*correct /etc/hosts, or set MASTER_ADDR"):
        meeting_place(["a", "b"], resolve=lambda _: ["10.0.0.1", address])


def test_where_the_ranks_meet() -> None:
    known = {"a": ["10.0.0.1"], "ib-a": ["10.1.0.1", "fe80::1%ib0"]}.__getitem__
    assert meeting_place(["me@a", "b"], resolve=known) == "a"
    assert meeting_place(["a", "b"], "ib-a", resolve=known) == "ib-a"
    # Alone it may be anything.
    assert meeting_place(["localhost"], resolve=known) == "localhost"


def test_an_unknown_name_says_what_to_do() -> None:
    def unknown(_: str) -> list[str]:
        raise OSError("Name or service not known")

    with pytest.raises(InputError, match=r"its address is not known here .*set MASTER_ADDR"):
        meeting_place(["a", "b"], resolve=unknown)


@pytest.mark.parametrize(
    ("include", "exclude", "gpus"),
    [("", "", None), ("c@b:0,7", "", None), ("b:7,0", "", None), ("", "a:1@b:3", None), ("", "", 1)],
)
def test_the_slots_that_deepspeed_uses(include: str, exclude: str, gpus: int | None) -> None:
    from deepspeed.launcher.runner import apply_num_nodes_and_gpus, parse_inclusion_exclusion

    theirs = apply_num_nodes_and_gpus(parse_inclusion_exclusion(SLOTS, include, exclude), -1, gpus or -1)
    assert slots_used(SLOTS, include, exclude, gpus=gpus) == dict(theirs)


def test_more_gpus_than_a_host_has_slots_are_refused() -> None:
    with pytest.raises(InputError, match="--num_gpus 2: c has 1 slots in the hostfile"):
        slots_used(SLOTS, gpus=2)


@pytest.mark.parametrize("address", ["2001:db8::1", "me@fe80::1", "::1"])
def test_addresses_that_pdsh_misreads_are_refused(address: str) -> None:
    refuse_ipv6(["a", "10.0.0.1"])
    with pytest.raises(InputError, match=f"{address}: pdsh accepts no IPv6 address: give the host a name"):
        refuse_ipv6(["a", address])
