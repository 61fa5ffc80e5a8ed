"""pyproject.toml and requirements.lock: lower bounds, and exact versions within them."""

import itertools
import pathlib
import re
import tomllib

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = PROJECT["optional-dependencies"]
LOCK = (ROOT / "requirements.lock").read_text()
# "name==version ; marker" and then, on lines of their own, its hashes
LOCKED = re.findall(r"^(\S+==[^\\\n]+?) \\\n((?:    --hash=.*\n)+)", LOCK, re.MULTILINE)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def locked(name: str, python: str, platform: str) -> list[Requirement]:
    """The version of a package that the lock installs in an environment."""
    where = {"python_version": python, "python_full_version": python + ".0", "sys_platform": platform}
    found = [Requirement(line) for line, _ in LOCKED]
    return [r for r in found if r.name == name and (r.marker is None or Marker(str(r.marker)).evaluate(where))]


def test_every_dependency_has_a_lower_bound():
    for line in itertools.chain(PROJECT["dependencies"], *OPTIONAL.values()):
        assert [part.operator for part in Requirement(line).specifier if part.operator in (">=", "==")], line


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("line", [*PROJECT["dependencies"], *OPTIONAL["images"], *OPTIONAL["import"]])
def test_the_lock_has_one_version_within_the_bounds(line, python, platform):
    requirement = Requirement(line)
    (found,) = locked(canonicalize_name(requirement.name), python, platform)
    (exact,) = found.specifier
    assert exact.operator == "=="
    assert requirement.specifier.contains(exact.version)


def test_each_version_in_the_lock_has_hashes_and_nothing_else_is_there():
    assert all(re.fullmatch(r"(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+", hashes) for _, hashes in LOCKED)
    left = re.sub(r"^(\S+==[^\\\n]+?) \\\n((?:    --hash=.*\n)+)", "", LOCK, flags=re.MULTILINE)
    assert all(not line or line.lstrip().startswith("#") for line in left.splitlines())
    assert "://" not in LOCK


def test_what_the_tests_need_is_as_new_as_what_users_need():
    """The extra `test` repeats images and import: the same bounds, or the tests would run beside others."""
    for line in (*OPTIONAL["images"], *OPTIONAL["import"]):
        assert line in OPTIONAL["test"]
