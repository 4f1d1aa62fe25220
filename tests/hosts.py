"""Two hosts with a cable between them, so that nothing is a loopback: network namespaces, where they can be made."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


def run(*command: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)


@dataclass
class Hosts:
    """Two namespaces: commands are prefixed by what runs them there."""

    daemon: list[str]
    client: list[str]
    address: str


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Give out two hosts; where they cannot be had, the test is skipped and says why."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("two hosts need root and iproute2 (ip netns)")
    tag = f"{os.getpid() % 100_000}"
    here, there = f"insp-d{tag}", f"insp-c{tag}"
    made = run("ip", "netns", "add", here)
    if made.returncode:
        pytest.skip(f"this machine makes no network namespaces: {made.stderr.strip()}")
    try:
        for line in (
            f"ip netns add {there}",
            f"ip link add vd{tag} netns {here} type veth peer name vc{tag} netns {there}",
            f"ip -n {here} addr add 10.213.7.1/30 dev vd{tag}",
            f"ip -n {there} addr add 10.213.7.2/30 dev vc{tag}",
            f"ip -n {here} link set vd{tag} up",
            f"ip -n {here} link set lo up",
            f"ip -n {there} link set lo up",
            f"ip -n {there} link set vc{tag} up",
        ):
            ended = run(*line.split())
            if ended.returncode:
                pytest.skip(f"this machine makes no network namespaces: {line}: {ended.stderr.strip()}")
        yield Hosts(["ip", "netns", "exec", here], ["ip", "netns", "exec", there], "10.213.7.1")
    finally:
        run("ip", "netns", "del", here)
        run("ip", "netns", "del", there)
