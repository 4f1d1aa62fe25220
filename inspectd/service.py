"""Puts what an installed package holds where systemd, Prometheus and shells look for it, and takes it away again.

What was placed is noted with its digest, so that a file that somebody has changed since is known: it stays as it is,
and the new one is laid beside it. Configuration, keys, models, journal and archive are never touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from inspectd.atomic import write_whole
from inspectd.errors import StartError
from inspectd.version import VERSION

UNIT, PAGE_UNIT = "inspectd.service", "inspectd-hmi.service"
UNITS = Path("/etc/systemd/system")
SETTINGS = Path("/etc/inspectd")
CONFIG = SETTINGS / "inspectd.yaml"
NOTED = SETTINGS / ".installed.json"
DATA = Path("/var/lib/inspectd")
PROGRAM = Path("/usr/local/bin/inspectd")
IN_UNIT = "/opt/inspectd/bin/inspectd"
"""What the shipped unit calls."""
FOLDERS = {
    SETTINGS: (0o755, "configuration"),
    SETTINGS / "credentials": (0o700, "the daemon's own keys and tokens, which nobody else can read"),
    SETTINGS / "hmi": (0o700, "users and key of the operator's page"),
    SETTINGS / "watch": (0o755, "public keys of clients that may watch"),
    SETTINGS / "command": (0o755, "public keys of clients that may command"),
    SETTINGS / "prometheus": (0o755, "what Prometheus is told"),
    SETTINGS / "grafana": (0o755, "the dashboard"),
}
SHIPPED = {
    SETTINGS / "prometheus" / "prometheus.yaml": "configs/prometheus/prometheus.yaml",
    SETTINGS / "prometheus" / "recording.yaml": "configs/prometheus/recording.yaml",
    SETTINGS / "prometheus" / "alerts.yaml": "configs/prometheus/alerts.yaml",
    SETTINGS / "grafana" / "inspectd.json": "configs/grafana/inspectd.json",
}
COMPLETIONS = {
    "bash": Path("/usr/local/share/bash-completion/completions/inspectd"),
    "zsh": Path("/usr/local/share/zsh/site-functions/_inspectd"),
    "fish": Path("/usr/local/share/fish/vendor_completions.d/inspectd.fish"),
}
GROUPS = ("video", "render")
HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"))
"""The unit's ProtectHome=yes."""
SYSTEMD = Path("/run/systemd/system")
BACKS_OFF_SINCE = 254
"""The version of systemd from which on restarts may become rarer."""
BACK_OFF = "RestartSec=2\nRestartSteps=8\nRestartMaxDelaySec=30\n"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where things are put."""

    root: Path
    """`/`; or the folder of an image, whose systemd cannot be asked."""
    program: Path
    """`inspectd`, as the unit shall call it."""
    interpreter: Path
    """The Python that runs it, links followed."""

    @property
    def is_here(self) -> bool:
        """Whether it is the machine that we run on."""
        return self.root == Path("/")

    def at(self, path: Path) -> Path:
        """Return where a path of that machine lies."""
        return self.root / path.relative_to("/")


@dataclass(slots=True)
class Service:
    """One machine's inspectd; `say` is given a line for each thing that was done."""

    machine: Machine
    say: Callable[[str], None]
    completions: Mapping[str, str] = field(default_factory=dict)
    """By shell, its script."""

    def install(self) -> None:
        """Put everything in place, or what is missing of it; StartError: that cannot be."""
        self._check()
        self._check_program()
        self._make_groups()
        for folder, (mode, what) in FOLDERS.items():
            self._make_folder(folder, mode, what)
        noted, is_first = self._noted(), not self.machine.at(NOTED).exists()
        placed = {path: self._place(path, text, noted) for path, text in self._texts().items()}
        self._note({**noted, **{str(path): digest for path, digest in placed.items() if digest is not None}})
        self._link()
        self._place_config()
        self._systemctl("daemon-reload")
        if is_first:
            self._systemctl("enable", UNIT)

    def upgrade(self, *, restarts: bool) -> None:
        """Put in place what this version brings; a daemon that runs is the old one until it is restarted."""
        self._check()
        if not self.machine.at(NOTED).exists():
            raise StartError(
                "No inspectd was installed as a service on this machine; expected `inspectd service install`."
            )
        self.install()
        if self.machine.is_here and self._is_running():
            if restarts:
                self._run([str(self.machine.program), "check", "--config", str(CONFIG)])
                self._systemctl("restart", UNIT)
                self._systemctl("try-restart", PAGE_UNIT)
            else:
                self.say(f"The daemon runs on as it was; when the line may pause: systemctl restart {UNIT}")

    def remove(self) -> None:
        """Stop the daemon, and take away what was placed; what was changed by hand, and all data, stays."""
        self._check()
        noted = self._noted()
        for unit in (PAGE_UNIT, UNIT):
            if self.machine.is_here and self.machine.at(UNITS / unit).exists():
                self._systemctl("disable", "--now", unit)
        left = {name: digest for name, digest in noted.items() if not self._take_away(Path(name), digest)}
        if (link := self.machine.at(PROGRAM)).is_symlink() and link.readlink() == self.machine.program:
            link.unlink()
            self.say(f"removed {PROGRAM}")
        for folder in reversed(FOLDERS):
            self._remove_if_empty(folder)
        noted_at = self.machine.at(NOTED)
        if not left:
            noted_at.unlink(missing_ok=True)
            self._remove_if_empty(SETTINGS)
        elif noted_at.exists():
            self._note(left)
        self._systemctl("daemon-reload")
        kept = [
            str(path) for path in (SETTINGS, DATA, Path("/var/lib/private/inspectd")) if self.machine.at(path).exists()
        ]
        if kept:
            self.say(f"kept {' and '.join(kept)}: configuration, keys, models, journal, pictures; remove them yourself")

    # What is looked at first

    def _check(self) -> None:
        if not self.machine.is_here:
            if not self.machine.root.is_dir():
                raise StartError(f"--root {self.machine.root} is no folder; expected that of an image.")
            return
        if os.geteuid() != 0:
            raise StartError("This changes the system and needs root: use sudo. Nothing was changed.")
        if not SYSTEMD.is_dir():
            raise StartError(
                f"This machine was not started by systemd ({SYSTEMD} is missing), so there is nothing to install the "
                "service into; use `inspectd run`, or --root DIR for an image. Nothing was changed."
            )

    def _check_program(self) -> None:
        for what, path in (("inspectd", self.machine.program), ("its Python", self.machine.interpreter)):
            if any(path.is_relative_to(hidden) for hidden in HIDDEN):
                raise StartError(
                    f"{what} is {path}, which a service with ProtectHome does not see; install it into /opt: "
                    "/usr/bin/python3 -m venv /opt/inspectd && /opt/inspectd/bin/pip install inspectd. Nothing was "
                    "changed."
                )
        if self.machine.is_here and not self.machine.program.exists():
            raise StartError(f"{self.machine.program} is missing; expected the installed program. Nothing was changed.")

    # What is done

    def _make_groups(self) -> None:
        groups = self.machine.at(Path("/etc/group"))
        text = groups.read_text(encoding="utf-8") if groups.exists() else ""
        for group in GROUPS:
            if not re.search(rf"^{group}:", text, re.MULTILINE):
                where = [] if self.machine.is_here else ["--root", str(self.machine.root)]
                self._run(["groupadd", *where, "--system", group])
                self.say(f"made the group {group}")

    def _make_folder(self, folder: Path, mode: int, what: str) -> None:
        here = self.machine.at(folder)
        if here.is_dir():
            if (is_mode := stat.S_IMODE(here.stat().st_mode)) & ~mode:
                self.say(f"{folder} has mode {is_mode:03o}; expected {mode:03o}: {what}")
            return
        if here.exists():
            raise StartError(f"{folder} is no folder; it is to hold {what}.")
        here.mkdir(parents=True)
        here.chmod(mode)
        self.say(f"made {folder}: {what}")

    def _texts(self) -> dict[Path, str]:
        """Return the text of each file that is placed."""
        texts = {UNITS / name: self.unit(name) for name in (UNIT, PAGE_UNIT)}
        texts |= {path: _shipped(name) for path, name in SHIPPED.items()}
        return texts | {COMPLETIONS[shell]: script for shell, script in self.completions.items()}

    def unit(self, name: str = UNIT) -> str:
        """Return a unit for this program and this systemd."""
        text = _shipped(f"systemd/{name}").replace(IN_UNIT, str(self.machine.program))
        if self._systemd_version() >= BACKS_OFF_SINCE:
            text = text.replace("RestartSec=2\n", BACK_OFF)
        return text

    def _place(self, path: Path, text: str, noted: Mapping[str, str]) -> str | None:
        """Put a file in place unless somebody has changed it; return its digest, or None where it was left."""
        here, digest = self.machine.at(path), _digest(text.encode())
        beside = here.with_name(here.name + ".new")
        old = here.read_bytes() if here.exists() else None
        if old is not None and _digest(old) == digest:
            beside.unlink(missing_ok=True)
            self.say(f"{path} is as it should be")
            return digest
        if old is not None and noted.get(str(path)) != _digest(old):
            write_whole(beside, text.encode())
            beside.chmod(0o644)
            self.say(f"kept {path}, which was changed here; what this version brings is {path}.new")
            return None
        here.parent.mkdir(parents=True, exist_ok=True)
        write_whole(here, text.encode())
        here.chmod(0o644)
        beside.unlink(missing_ok=True)
        self.say(f"{'wrote' if old is None else 'replaced'} {path}")
        return digest

    def _place_config(self) -> None:
        here = self.machine.at(CONFIG)
        if here.exists():
            self.say(f"kept {CONFIG}")
            return
        write_whole(here, _shipped("configs/inspectd.yaml").encode())
        here.chmod(0o644)
        self.say(f"wrote {CONFIG}: every key with its default. Set its cameras, or let `inspectd init` ask you; then:")
        self.say(f"  inspectd check --config {CONFIG} && systemctl start inspectd")

    def _link(self) -> None:
        """Put the program on everybody's path."""
        here = self.machine.at(PROGRAM)
        if here.is_symlink() and here.readlink() == self.machine.program:
            return
        if here.exists() or here.is_symlink():
            self.say(f"kept {PROGRAM}, which is another one than {self.machine.program}")
            return
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(self.machine.program)
        self.say(f"linked {PROGRAM} to {self.machine.program}")

    def _take_away(self, path: Path, digest: str) -> bool:
        """Remove a file unless somebody has changed it; return whether it is gone."""
        here = self.machine.at(path)
        here.with_name(here.name + ".new").unlink(missing_ok=True)
        if not here.exists():
            return True
        if _digest(here.read_bytes()) != digest:
            self.say(f"kept {path}, which was changed here")
            return False
        here.unlink()
        self.say(f"removed {path}")
        return True

    def _remove_if_empty(self, folder: Path) -> None:
        here = self.machine.at(folder)
        if here.is_dir() and not any(here.iterdir()):
            here.rmdir()
            self.say(f"removed {folder}")

    def _noted(self) -> dict[str, str]:
        here = self.machine.at(NOTED)
        if not here.exists():
            return {}
        try:
            files = json.loads(here.read_text(encoding="utf-8"))["files"]
            return {str(path): str(digest) for path, digest in files.items()}
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            self.say(f"{NOTED} cannot be read: what lies there counts as changed by hand")
            return {}

    def _note(self, files: Mapping[str, str]) -> None:
        text = json.dumps({"version": VERSION, "files": dict(files)}, indent=1) + "\n"
        write_whole(self.machine.at(NOTED), text.encode())

    # systemd

    def _systemd_version(self) -> int:
        """Return its version; 0: it cannot be asked."""
        if not self.machine.is_here:
            return 0
        found = re.match(r"systemd (\d+)", self._run(["systemctl", "--version"]))
        return int(found[1]) if found else 0

    def _is_running(self) -> bool:
        done = subprocess.run(["systemctl", "is-active", "--quiet", UNIT], check=False)
        return done.returncode == 0

    def _systemctl(self, *what: str) -> None:
        if not self.machine.is_here:
            return
        self._run(["systemctl", *what])
        self.say(f"systemctl {' '.join(what)}")

    def _run(self, command: list[str]) -> str:
        if shutil.which(command[0]) is None:
            raise StartError(f"{command[0]} is missing on this machine; expected Debian's package that brings it.")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}").rstrip(".")
            raise StartError(f"`{' '.join(command)}` failed: {said}.")
        return done.stdout


def _shipped(name: str) -> str:
    """Return the text of a file of the package, or of the checkout that it is run from."""
    packaged = resources.files("inspectd").joinpath(name)
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).resolve().parents[1] / name).read_text(encoding="utf-8")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_example(path: Path) -> bool:
    """Whether a file is the configuration that `install` writes, as it was written."""
    return path.read_bytes() == _shipped("configs/inspectd.yaml").encode()
