"""Fetches the library that draws the page's charts when the package is built: npm's `uplot`, MIT, pinned by its hash.

    python inspectd/hmi/charts.py      fetches it into a working tree by hand

To update it: set VERSION and INTEGRITY to what `npm view uplot@VERSION dist.integrity` prints, and run the tests. It is
not in the repository. Where npm cannot be had, the package is built without it, and pages say so in the chart's place.
Loaded by setuptools alone, out of its package: the standard library and setuptools, nothing of inspectd.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from setuptools.command.build_py import build_py  # type: ignore[import-untyped]

VERSION = "1.6.15"
"""The last that a browser of 2016 understands: what came after is ES2020."""
INTEGRITY = "sha512-6Fgq9tMaEM9Yu9oLkKd0w7VLJtV8LHG6dBrg1TmYi0LmSLkrj2Hqr11IrHk68cMaExnWAqay6YToQCrMZt1fcQ=="
FILES = ("package/dist/uPlot.iife.min.js", "package/dist/uPlot.min.css", "package/LICENSE")
VENDOR = Path(__file__).parent / "static" / "vendor"
PATIENCE_S = 60
LARGEST = 4 << 20


def fetch(folder: Path = VENDOR) -> str | None:
    """Put the library into a folder, unless this version is there; return why it could not be had."""
    stamp = folder / "VERSION"
    if stamp.is_file() and stamp.read_text() == INTEGRITY:
        return None
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed"
    with tempfile.TemporaryDirectory() as scratch:
        try:
            subprocess.run(
                [npm, "pack", "--silent", "--fetch-retries=0", f"uplot@{VERSION}"],
                cwd=scratch,
                check=True,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            (archive,) = Path(scratch).glob("*.tgz")
            _unpack(archive, folder)
        except (OSError, ValueError, KeyError, tarfile.TarError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None)
            return (said.strip().splitlines() or [str(error)])[-1] if said else str(error)
    stamp.write_text(INTEGRITY)
    return None


def _unpack(archive: Path, folder: Path) -> None:
    """Write the files that are needed; ValueError: it is not what was published."""
    data = archive.read_bytes()
    found = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    if found != INTEGRITY:
        raise ValueError(f"uplot {VERSION} has the hash {found}; expected {INTEGRITY}")
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for name in FILES:
            file = tar.extractfile(name)
            if file is None:
                raise ValueError(f"uplot {VERSION} has no {name}")
            (folder / Path(name).name).write_bytes(file.read(LARGEST))


class BuildPy(build_py):  # type: ignore[misc]
    """Builds the Python files, and fetches the library before."""

    def run(self) -> None:
        """See the class."""
        why = fetch()
        if why is not None:
            self.warn(f"the operator's page has no charts: uplot {VERSION} could not be fetched: {why}")
        super().run()


if __name__ == "__main__":
    sys.exit(fetch())
