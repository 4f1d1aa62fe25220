"""Metrics over a network: a real Prometheus on another host, over TLS, with the token and without."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from conftest import write_small_model
from hosts import Hosts, run, two_hosts
from prometheus import HAS_PROMETHEUS, PACKAGE

PORT, THEIRS = 9108, 9090
TOKEN = "8d1c6c1f6d1b4f0e"
ASK = """
import ssl, sys, urllib.error, urllib.request
url, authority, token = sys.argv[1:]
context = ssl.create_default_context(cafile=authority or None)
headers = {"Authorization": f"Bearer {token}"} if token else {}
try:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10, context=context) as reply:
        print(reply.status, "inspectd_uptime_seconds" in reply.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode().strip())
except OSError as error:
    print("not answered:", error)
"""


class Site:
    """A daemon on one host; what it takes to read its metrics lies in a folder."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self.folder, self.hosts = folder, hosts
        authority = trustme.CA()
        pair = authority.issue_cert(hosts.address)
        self.authority, cert, key, self.token = (folder / name for name in ("ca.pem", "cert.pem", "key.pem", "token"))
        authority.cert_pem.write_to_path(self.authority)
        for blob in pair.cert_chain_pems:
            blob.write_to_path(cert, append=True)
        pair.private_key_pem.write_to_path(key)
        self.token.write_text(TOKEN + "\n")
        key.chmod(0o600)
        self.token.chmod(0o600)
        self.log = folder / "log.txt"
        model = write_small_model(folder / "model", threshold=1e6)
        (folder / "inspectd.yaml").write_text(
            f"cameras: [{{name: top, source: 'sim://line?fps=5&width=64&height=64', model: {model}}}]\n"
            f"publish: {{bind: 'ipc://{folder}/verdicts'}}\ncontrol: {{bind: 'ipc://{folder}/control'}}\n"
            f"metrics: {{listen: '{hosts.address}:{PORT}', tls_cert: {cert}, tls_key: {key}, "
            f"token_file: {self.token}}}\n"
            "journal: {path: null}\narchive: {max_gb: 0}\n"
        )
        program = [sys.executable, "-m", "inspectd", "run", "--config", str(folder / "inspectd.yaml")]
        with self.log.open("w") as log:
            self.daemon = subprocess.Popen([*hosts.daemon, *program], stderr=log)

    def ask(self, path: str, *, authority: bool = True, token: str = TOKEN, scheme: str = "https") -> str:
        """Return what a client on the other host is told."""
        url = f"{scheme}://{self.hosts.address}:{PORT}{path}"
        line = [*self.hosts.client, sys.executable, "-c", ASK, url, str(self.authority) if authority else "", token]
        return run(*line).stdout.strip()

    def prometheus(self, name: str, job: dict[str, Any]) -> subprocess.Popen[bytes]:
        """Start a Prometheus on the other host."""
        folder = self.folder / name
        folder.mkdir()
        here = {"targets": [f"{self.hosts.address}:{PORT}"]}
        settings = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "inspectd", "scheme": "https", "static_configs": [here], **job}],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
        line = [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
        listen = f"--web.listen-address=127.0.0.1:{THEIRS}"
        return subprocess.Popen([*self.hosts.client, "prometheus", *line, listen], stderr=subprocess.DEVNULL)

    def up(self) -> str:
        """Return the value of `up` at the other host's Prometheus; empty: it has none yet."""
        line = [*self.hosts.client, "promtool", "query", "instant", f"http://127.0.0.1:{THEIRS}", 'up{job="inspectd"}']
        return run(*line).stdout.partition("=> ")[2].partition(" ")[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with two_hosts() as hosts:
        site = Site(tmp_path_factory.mktemp("site"), hosts)
        give_up_s = time.monotonic() + 60
        while site.ask("/readyz").split(" ")[0] not in (str(http.client.OK), str(http.client.SERVICE_UNAVAILABLE)):
            assert time.monotonic() < give_up_s, site.log.read_text()
        yield site
        site.daemon.kill()
        site.daemon.wait()


def test_who_knows_the_token_is_answered_and_nobody_else(site: Site) -> None:
    assert site.ask("/metrics") == "200 True"
    assert site.ask("/metrics", token="") == site.ask("/metrics", token=TOKEN[:-1]) == "401 A bearer token is expected."
    assert "CERTIFICATE_VERIFY_FAILED" in site.ask("/metrics", authority=False)
    assert site.ask("/metrics", scheme="http").startswith("not answered:")


@pytest.mark.skipif(not HAS_PROMETHEUS, reason=f"needs {PACKAGE}")
@pytest.mark.parametrize("knows", [True, False], ids=["with the token", "without"])
def test_a_prometheus_scrapes_it_as_the_shipped_configuration_says(site: Site, knows: bool) -> None:
    tls = {"tls_config": {"ca_file": str(site.authority)}}
    token = {"authorization": {"credentials_file": str(site.token)}} if knows else {}
    process = site.prometheus("knows" if knows else "knows-not", {**tls, **token})
    try:
        give_up_s = time.monotonic() + 60
        while (up := site.up()) == "":
            assert time.monotonic() < give_up_s, "it does not answer"
        assert up == ("1" if knows else "0")
    finally:
        process.terminate()
        process.wait(20)
