from __future__ import annotations

from importlib.metadata import version

from mmae.version import installed_version


def test_a_package_has_its_version_or_is_absent() -> None:
    assert installed_version("numpy") == version("numpy")
    assert installed_version("no-such-package-anywhere") == "absent"
