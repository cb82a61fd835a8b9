"""No damage to a checkpoint's files goes unseen."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmae.engine.checkpoint.hashed_file import Entry, HashedFile, hash_file, write_hashed
from mmae.engine.checkpoint.integrity import problem_of
from mmae.engine.checkpoint.manifest import MANIFEST, content_problem, listing_problem, parse, render, share
from tests.support.checkpoint_files import save_checkpoint

FILES = {"a": Entry(3, "aa"), "b/c": Entry(0, "bb")}


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.long
@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    checkpoint = save_checkpoint(tmp_path_factory.mktemp("run"), 6)
    assert problem_of(checkpoint) is None
    file = data.draw(st.sampled_from(files_below(checkpoint)))
    content = bytearray(file.read_bytes())
    kind = data.draw(st.sampled_from(["flip", "cut", "longer", "missing", "extra", "folder"]))
    match kind:
        case "flip":
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            file.write_bytes(content)
        case "cut":
            file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        case "longer":
            file.write_bytes(content + data.draw(st.binary(min_size=1, max_size=4)))
        case "missing":
            file.unlink()
        case "extra":
            (file.parent / "more.pt").touch()
        case _:
            file.unlink()
            file.mkdir()
    assert problem_of(checkpoint), (kind, file)


def test_a_link_is_not_the_file_it_leads_to(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path, 6)
    file = files_below(checkpoint)[-1]
    elsewhere = file.rename(tmp_path / "elsewhere")
    file.symlink_to(elsewhere)
    assert "bytes" in (problem_of(checkpoint) or "")


def test_missing_unlisted_and_changed_files_are_named(tmp_path: Path) -> None:
    for name, text in (("a", b"abc"), ("c.pt", b"")):
        write_hashed(tmp_path / name, text)
    files = {name: hash_file(tmp_path / name) for name in ("a", "c.pt")}
    assert listing_problem(tmp_path, files) is None
    assert listing_problem(tmp_path, {**files, "d": Entry(1, "")}) == "d is missing"
    assert listing_problem(tmp_path, {"a": files["a"]}) == f"c.pt is not in {MANIFEST}"
    assert listing_problem(tmp_path, {**files, "a": Entry(4, "")}) == "a has 3 bytes, but 4 were written"
    assert content_problem(tmp_path, files) is None
    assert "a does not hold" in (content_problem(tmp_path, {**files, "a": files["c.pt"]}) or "")
    for stranger in (".nfs0001", ".DS_Store", "notes.txt", "pytorch_model.bin"):
        (tmp_path / stranger).touch()
    assert listing_problem(tmp_path, files) is None


def test_a_manifest_comes_back() -> None:
    assert parse(render(FILES)) == FILES
    assert parse(render({})) == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": {"a": [1]}}', '{"files": {"a": 1}}', '{"files": []}'])
def test_invalid_manifests_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x"])
def test_files_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="elsewhere"):
        parse(render({name: Entry(1, "aa")}))


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 1000), max_size=30), st.integers(1, 9))
def test_ranks_share_every_file_once(sizes: dict[str, int], world: int) -> None:
    files = {name: Entry(size, "") for name, size in sizes.items()}
    shares = [share(files, rank, world) for rank in range(world)]
    assert sorted(name for each in shares for name in each) == sorted(files)
    loads = [sum(entry.size for entry in each.values()) for each in shares]
    assert max(loads) - min(loads) <= max(sizes.values(), default=0)


def test_a_failed_write_raises_at_the_close() -> None:
    file = HashedFile(Path("/dev/full"))
    assert file.write(b"x" * 100_000) == 100_000
    assert file.write(b"y") == 1
    with pytest.raises(OSError, match="No space left"):
        file.close()
