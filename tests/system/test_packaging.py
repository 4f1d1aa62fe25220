"""What is shipped: a wheel with everything that an installed inspectd needs, and a tidy top level."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

import pytest
from conftest import ROOT
from wheels import built, copied, git_files

import inspectd

TOP_LEVEL = {"inspectd", "calibrate", "configs", "systemd", "tests", "pyproject.toml", "README.md", "LICENSE"}

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is not a checkout: git knows no files")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    """Names of the files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_the_wheel_holds_every_module_of_the_tree(source: Path, contents: set[str]) -> None:
    found = [path for folder in ("inspectd", "calibrate") for path in (source / folder).rglob("*.py")]
    modules = {path.relative_to(source).as_posix() for path in found}
    assert len(modules) > 50
    assert {name for name in contents if name.endswith(".py")} == modules


def test_every_folder_of_modules_is_a_package(source: Path) -> None:
    folders = {path.parent for folder in ("inspectd", "calibrate") for path in (source / folder).rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("inspectd/configs/inspectd.yaml", "configs/inspectd.yaml"),
        ("inspectd/configs/wire.schema.json", "configs/wire.schema.json"),
        ("inspectd/configs/prometheus/alerts.yaml", "configs/prometheus/alerts.yaml"),
        ("inspectd/configs/grafana/inspectd.json", "configs/grafana/inspectd.json"),
        ("inspectd/systemd/inspectd.service", "systemd/inspectd.service"),
        ("inspectd/systemd/inspectd-hmi.service", "systemd/inspectd-hmi.service"),
        ("inspectd/hmi/pages/wall.html", "inspectd/hmi/pages/wall.html"),
        ("inspectd/hmi/static/page.js", "inspectd/hmi/static/page.js"),
        ("inspectd/py.typed", "inspectd/py.typed"),
        ("calibrate/results/templates/report.html", "calibrate/results/templates/report.html"),
        ("calibrate/results/templates/model.html", "calibrate/results/templates/model.html"),
    ],
)
def test_the_wheel_holds_what_an_installation_needs(
    source: Path, wheel: Path, contents: set[str], name: str, original: str
) -> None:
    assert name in contents
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(name) == (source / original).read_bytes()


def test_the_wheel_holds_nothing_else(contents: set[str]) -> None:
    info = f"inspectd-{inspectd.__version__}.dist-info"
    assert {name.partition("/")[0] for name in contents} == {"inspectd", "calibrate", info}
    suffixes = {PurePosixPath(name).suffix for name in contents if not name.startswith(info)}
    # without a suffix: licence and version of the charts' library, where it could be fetched
    assert suffixes - {""} == {".py", ".yaml", ".json", ".service", ".typed", ".html", ".css", ".js"}
    assert f"{info}/licenses/LICENSE" in contents


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    info = f"inspectd-{inspectd.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert (metadata["Name"], metadata["Version"]) == ("inspectd", inspectd.__version__)
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_payload(), "the README is the description"
    assert "inspectd = inspectd.cli:main" in scripts


def test_an_unpacked_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import inspectd, calibrate; from importlib.resources import files;"
        "from inspectd.config_file import load; load(files('inspectd.configs') / 'inspectd.yaml');"
        "print(inspectd.__file__, calibrate.__file__)"
    )
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(site)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(Path(name).is_relative_to(site) for name in done.stdout.split())


def test_the_top_level_is_the_one_of_the_design() -> None:
    tops = {name.parts[0] for name in git_files()}
    assert {name for name in tops if not name.startswith(".")} <= TOP_LEVEL
    assert (ROOT / "README.md").is_file()


def test_nothing_that_a_build_or_run_makes_is_committed() -> None:
    made = {".pyc", ".pth", ".pkl", ".db", ".so", ".whl", ".log"}
    assert [str(name) for name in git_files() if name.suffix in made] == []


def test_the_readme_of_each_package_prints_the_layers_that_ci_checks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lists = {
        contract["containers"][0]: contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    }
    for package in ("inspectd", "calibrate"):
        printed = (ROOT / package / "README.md").read_text(encoding="utf-8")
        assert "```\n" + "\n".join(lists[package]) + "\n```" in printed


def test_every_package_says_what_it_owns_where_it_runs_and_what_it_never_does() -> None:
    for init in (path for folder in ("inspectd", "calibrate") for path in (ROOT / folder).rglob("*/__init__.py")):
        text = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
        assert all(word in text for word in ("Owns:", "Threads:", "Never:")), init
