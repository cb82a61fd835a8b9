"""All findings together."""

from __future__ import annotations

import shutil

import pytest

from mmae.doctor.checks.findings import failed
from mmae.doctor.host_report import all_findings, table_of
from tests.support.surveyed_hosts import RUN, cache, facts, host


def test_hosts_that_do_not_answer_leave_the_others_to_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/pdsh")
    silent = host("a", silent=("it does not answer", "is it up?"))
    found = all_findings([silent, host("b", run=RUN, op_cache=cache(), token="wrote")], None)
    assert [(each.check, each.host) for each in found if each.level == "FAIL"] == [("ssh", "a")]
    assert {each.host for each in found if each.check != "ssh"} == {"b"}
    assert [each.check for each in all_findings([silent, silent], None)] == ["ssh", "ssh"]


@pytest.mark.parametrize(("count", "missing"), [(1, False), (2, True)])
def test_many_hosts_need_pdsh(monkeypatch: pytest.MonkeyPatch, count: int, missing: bool) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    well = [host(name, facts(machine=name)) for name in "ab"[:count]]
    found = all_findings(well, None)
    assert failed(found) is missing
    assert [each.check for each in found if each.level == "FAIL"] == ["launcher"] * missing


def test_answers_of_hosts_are_made_safe_for_the_terminal() -> None:
    table = table_of(all_findings([host("a", facts(hostname="\x1b[2Jboo", own_addresses=[]))], None), "t")
    assert "\x1b" not in table.text()
    assert "boo" in table.text()
    assert table.notes[0].startswith("0 failed, ")
