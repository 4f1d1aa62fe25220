"""Keeping passwords inside: what is taken out of every text that leaves the process."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)\S*@")
_SLIPS = re.compile(r"(?<![^\s'\"])(?![/.])[^\s'\"]*:\S*@")
"""An address whose scheme is misspelt or missing."""
_NAMED_SECRET = re.compile(
    r"\b((?:[a-z_]*(?:user|usr|login|pass|pwd|psw|token|auth|key|secret|jwt|sig|session)[a-z_]*|u|p|pw)=)[^&\s'\"]*",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Take the secrets out of any text that leaves the process. Rather too much than too little is taken out.

    A password may hold `/`, `?`, `#` or `@`: everything between `://` and the last `@` of a word goes. Some cameras
    want user and password in the query, or even in the path.
    """
    return _NAMED_SECRET.sub(r"\1…", _SLIPS.sub("", _CREDENTIALS.sub(r"\1", text)))
