"""constraints.txt, pyproject.toml and environment.yml name the same versions."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
INTERPRETER = {"python", "pip"}  # named by conda only: a virtual environment already has both


def constraints() -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    pins = [(line, re.fullmatch(r"([A-Za-z0-9._-]+)==([^=\s]+)", line)) for line in lines if line]
    assert all(pin for _, pin in pins), f"constraints.txt: not exact pins: {[line for line, pin in pins if not pin]}"
    return {canonicalize_name(pin[1]): pin[2] for _, pin in pins}


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in project["dependencies"] + extras]


def conda() -> dict[str, str]:
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    pairs = [entry.split("=") for entry in entries if isinstance(entry, str) and "=" in entry]
    pairs += [entry.split("==") for entry in pip]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_declared_range_admits_the_pin(requirement):
    pins = constraints()
    name = canonicalize_name(requirement.name)
    assert name in pins, f"{name} is in pyproject.toml but has no pin in constraints.txt"
    assert requirement.specifier.contains(pins[name]), f"pyproject.toml asks for {requirement}, the pin is {pins[name]}"


def test_conda_names_the_same_versions():
    pins = constraints()
    ours = {name: version for name, version in conda().items() if name not in INTERPRETER}
    assert ours == {name: pins.get(name) for name in ours}


def test_conda_leaves_nothing_out():
    wanted = {canonicalize_name(requirement.name) for requirement in declared()}
    assert wanted <= set(conda()), f"environment.yml lacks {sorted(wanted - set(conda()))}"


def test_every_supported_python_is_tried_and_looked_for():
    """By CI, and by make where none is named."""
    supported = Requirement("python" + tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    versions = [f"3.{minor}" for minor in range(30) if supported.specifier.contains(f"3.{minor}")]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == versions
    assert set(re.findall(r"python(3\.\d+)\b", (ROOT / "Makefile").read_text())) == set(versions)


def test_conda_python_is_supported():
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert Requirement(f"python{supported}").specifier.contains(Version(conda()["python"]))
