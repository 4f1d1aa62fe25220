"""Aravis: Debian's gir1.2-aravis-0.8 with python3-gi, which a virtual environment does not see by itself."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from inspectd.cameras.sources import ARAVIS
from inspectd.errors import CameraError

_import = importlib.import_module
INSTALL = "sudo apt install gir1.2-aravis-0.8 python3-gi"


def load() -> tuple[Any, type[Exception]]:
    """Return Aravis and its error; CameraError: it is not installed."""
    version = f"python{sys.version_info.major}"
    for folder in (None, Path(f"/usr/lib/{version}/dist-packages")):  # a virtual environment does not see Debian's own
        if folder is not None and (folder / "gi").is_dir():
            sys.path.append(str(folder))
        try:
            _import("gi").require_version("Aravis", "0.8")
            loaded = _import("gi.repository.Aravis"), _import("gi.repository.GLib").Error
        except (ImportError, ValueError, AttributeError):
            continue
        else:
            return loaded
        finally:
            if folder is not None and str(folder) in sys.path:
                sys.path.remove(str(folder))
    raise CameraError(f"GigE Vision and USB3 Vision cameras need Aravis, which is not installed here: {INSTALL}")


def missing() -> str | None:
    """Return why no such camera can be read here, as a sentence without its full stop; None: they can."""
    try:
        load()
    except CameraError as error:
        return str(error)
    return None


def found() -> list[tuple[str, str]]:
    """Return the address, and maker and model, of each camera that answers; CameraError: Aravis is not installed."""
    aravis, _ = load()
    aravis.update_device_list()
    return [
        (
            f"{ARAVIS}{aravis.get_device_serial_nbr(i)}",
            f"{aravis.get_device_vendor(i)} {aravis.get_device_model(i)}",
        )
        for i in range(aravis.get_n_devices())
    ]


def said(error: Exception) -> str:
    """Return what an error of Aravis says, without where in GLib it comes from."""
    return str(getattr(error, "message", error))
