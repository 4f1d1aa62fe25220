"""The operator's page as a server: who may what, what it refuses, and what it tells of the past."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import ssl
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from conftest import write_small_model
from daemon_process import DaemonProcess
from hmi_process import Browser, HmiProcess
from run_here import run_here
from websockets.exceptions import ConnectionClosed, InvalidStatus

from inspectd.addresses import free_port
from inspectd.client import Control
from inspectd.history.database import SCHEMA
from inspectd.history.reading import all_changes
from inspectd.hmi.accounts import Role, new_user, write_users
from inspectd.hmi.feed import PATIENCE_S

PASSWORD = "correct horse"
SOURCE = "sim://line?seed=1&fps=20&width=64&height=64&ahead=20"


def camera(model: Path, name: str = "top", threshold: float = 1.0) -> str:
    return f'{{name: {name}, source: "{SOURCE}", model: {model}, threshold: {threshold}, deadline_ms: 2000}}'


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon with two cameras: one whose parts are good, one whose parts are not."""
    folder = tmp_path_factory.mktemp("line")
    model = write_small_model(folder / "model", threshold=1.0)
    cameras = f"{camera(model)}, {camera(model, 'side', -1e6)}"
    with DaemonProcess(folder / "d", cameras, extra=f"archive: {{path: {folder}/a, ok_share: 1}}\n") as daemon:
        daemon.archive = folder / "a"
        daemon.listen(lambda d: {one["camera"] for one in d.verdicts} == {"top", "side"}, 90)
        yield daemon


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "users.json"
    write_users(path, {role.value: new_user(role, PASSWORD) for role in Role})
    return path


@pytest.fixture(scope="module")
def page(line: DaemonProcess, users: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HmiProcess]:
    """The page of that daemon, with a login."""
    folder = tmp_path_factory.mktemp("page")
    more = ("--config", str(line.config), "--users", str(users), "--state", str(folder))
    with HmiProcess(folder, line.endpoint, line.control, *more) as one:
        yield one


def known(page: HmiProcess, cookie: str) -> None:
    """Wait until the page knows both cameras."""
    with page.browser(cookie=cookie) as browser:
        seen: set[str] = set()
        while not {"top", "side"} <= seen:
            seen |= {one["name"] for one in browser.take()[0]["cameras"]}


def test_who_has_not_logged_in_sees_nothing(page: HmiProcess) -> None:
    for path in ("/", "/camera/top", "/gallery", "/part/top/x/1", "/kept/top/x.png"):
        status, headers, body = page.get(path)
        assert (status, headers["location"], body) == (303, "/login", b"")
    assert page.post("/do/trigger", {"camera": "top"})[0] == 401
    with pytest.raises(InvalidStatus, match="403"):
        page.browser()


def test_a_session_is_a_cookie_that_no_script_and_no_other_site_gets(page: HmiProcess) -> None:
    form = f"name=viewer&password={PASSWORD.replace(' ', '+')}".encode()
    status, headers, _ = page.request("POST", "/login", form, {"origin": page.origin})
    assert status == 303
    cookie = headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    status, headers, body = page.request("POST", "/login", b"name=viewer&password=wrong", {"origin": page.origin})
    assert status == 403
    assert b"wrong name or password" in body
    assert "set-cookie" not in headers


def test_headers_keep_strangers_out(page: HmiProcess) -> None:
    _, headers, _ = page.get("/login")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")
    assert headers["cache-control"] == "no-store"


def test_another_site_can_neither_look_nor_act(page: HmiProcess) -> None:
    cookie = page.login("engineer", PASSWORD)
    for origin in (
        "http://evil.example",
        "null",
        "",
        f"http://127.0.0.1:{page.port + 1}",
        f"http://127.0.0.1.evil.example:{page.port}",
    ):
        with pytest.raises(InvalidStatus, match="403"):
            page.browser(cookie=cookie, origin=origin)
        status, reply = page.post(
            "/do/bypass", {"camera": "top", "seconds": 60, "why": "x"}, cookie=cookie, origin=origin
        )
        assert (status, reply["ok"]) == (403, False)
    status, _, body = page.get("/", cookie=cookie, host="evil.example")  # a name that suddenly means this machine
    assert status == 421
    assert b"--name" in body


@pytest.mark.parametrize(
    ("role", "allowed"), [("viewer", set()), ("operator", {"bypass"}), ("engineer", {"bypass", "threshold"})]
)
def test_a_role_is_asked_by_the_server_whatever_the_page_shows(
    page: HmiProcess, line: DaemonProcess, role: str, allowed: set[str]
) -> None:
    cookie = page.login(role, PASSWORD)
    for name, fields in {
        "bypass": {"camera": "top", "seconds": 0, "why": "tried"},
        "threshold": {"camera": "top", "value": 1.0, "why": "tried"},
    }.items():
        before = len(all_changes(line.journal)[0])
        status, reply = page.post(f"/do/{name}", fields, cookie=cookie)
        assert (status == 200) is (name in allowed), reply
        if status != 200:
            assert (status, reply["ok"]) == (403, False)
            assert f"{role} is {role}" in reply["message"]
            assert len(all_changes(line.journal)[0]) == before


def test_every_change_says_who_and_why_and_is_in_the_audit(page: HmiProcess, line: DaemonProcess) -> None:
    cookie = page.login("engineer", PASSWORD)
    asked = {"camera": "top", "value": 1.25, "by": "somebody else"}
    status, reply = page.post("/do/threshold", asked, cookie=cookie)
    assert status == 400
    assert "Say why" in reply["message"]
    status, reply = page.post("/do/threshold", {**asked, "dry_run": True}, cookie=cookie)
    assert status == 200, reply
    assert reply["result"]["trial"]["verdicts"] > 0
    seen = reply["result"]["threshold"]
    status, reply = page.post("/do/threshold", {**asked, "why": "a new lamp", "instead_of": seen}, cookie=cookie)
    assert status == 200, reply
    change = json.loads(all_changes(line.journal)[0][-1].change)
    assert (change["what"], change["by"], change["why"]) == ("threshold", "engineer", "a new lamp")
    status, reply = page.post(
        "/do/threshold", {**asked, "value": 1.5, "why": "I too", "instead_of": seen}, cookie=cookie
    )
    assert status == 409, "another engineer was faster"
    assert "somebody else has changed it" in reply["message"]
    status, reply = page.post("/do/revert", {"camera": "top", "why": "back"}, cookie=cookie)
    assert status == 200, reply


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/do/unknown", {}, 404, "There is no command"),
        ("/do/reload", {"why": "x"}, 404, "There is no command"),
        ("/do/threshold", {"camera": "top", "value": "high", "why": "x"}, 400, "Expected `float`"),
        ("/do/threshold", {"camera": "nowhere", "value": 1, "why": "x"}, 409, "no camera"),
        ("/do/threshold", {"camera": "top", "value": 1, "why": "x", "more": 1}, 400, "unknown field"),
        ("/do/bypass", {"camera": "top", "seconds": -1, "why": "x"}, 400, "seconds"),
        ("/do/bypass", [], 400, "no JSON object"),
        ("/do/mark", {"camera": "top", "seq": 10**9, "say": "good", "why": "x"}, 409, ""),
        ("/do/trigger", {"camera": "top"}, 409, "mode"),
        ("/do/bypass", {"camera": "top", "seconds": 1, "why": "x" * 20_000}, 413, "nothing was done"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(page: HmiProcess, path: str, body: Any, status: int, says: str) -> None:
    got, reply = page.post(path, body, cookie=page.login("engineer", PASSWORD))
    assert (got, reply["ok"]) == (status, False), reply
    assert says in reply["message"]
    assert "Traceback" not in reply["message"]


def test_a_session_that_is_over_does_nothing_and_says_so(page: HmiProcess, line: DaemonProcess) -> None:
    cookie = page.login("engineer", PASSWORD)
    assert page.request("POST", "/logout", b"", {"origin": page.origin, "cookie": cookie})[0] == 303
    before = len(all_changes(line.journal)[0])
    status, reply = page.post("/do/threshold", {"camera": "top", "value": 2.0, "why": "x"}, cookie=cookie)
    assert status == 401
    assert "nothing was done" in reply["message"]
    assert len(all_changes(line.journal)[0]) == before


def test_a_browser_gets_the_newest_with_its_picture_and_its_map(page: HmiProcess) -> None:
    cookie = page.login("viewer", PASSWORD)
    known(page, cookie)
    with page.browser("?camera=top", cookie=cookie) as browser:
        first, _ = browser.take(answers=False)
        seq = first["cameras"][0]["verdict"]["seq"]
        time.sleep(1)
        browser.socket.send('{"ack": 1}')
        second, _ = browser.take()
        assert second["n"] == 2
        assert second["cameras"][0]["verdict"]["seq"] > seq + 10, "what was in between was not sent for itself"
        assert len(second["cameras"][0].get("pictures", [])) <= 1
        while True:
            update, rest = browser.take()
            found = update["cameras"][0].get("pictures") if update["cameras"] else None
            if found and found[-1].get("masks"):
                break
        picture = found[-1]
        assert rest[:2] == b"\xff\xd8"
        assert len(rest) == picture["bytes"] + sum(one["w"] * one["h"] for one in picture["masks"])


def take_all(browser: Browser, *, answers: bool = False) -> None:
    while True:
        browser.take(answers=answers)


def descriptors(page: HmiProcess) -> int:
    return len(list(Path(f"/proc/{page.process.pid}/fd").iterdir()))


def test_browsers_that_stall_or_vanish_leave_nothing(page: HmiProcess) -> None:
    cookie = page.login("viewer", PASSWORD)
    before = descriptors(page)
    stalled = [page.browser(cookie=cookie) for _ in range(20)]
    for one in stalled[:10]:  # without a word
        one.socket.socket.close()
    give_up_s = time.monotonic() + PATIENCE_S + 20
    while json.loads(page.get("/healthz")[2])["browsers"] > 0:
        assert time.monotonic() < give_up_s
        time.sleep(0.5)
    for one in stalled[10:]:
        with pytest.raises(ConnectionClosed):
            take_all(one)
    time.sleep(0.5)
    assert descriptors(page) <= before + 2


def test_the_gallery_finds_what_was_not_ok_and_gives_it_away(page: HmiProcess, line: DaemonProcess) -> None:
    cookie = page.login("operator", PASSWORD)
    known(page, cookie)
    line.listen(lambda d: sum(one["camera"] == "side" for one in d.verdicts) > 30)
    status, _, body = page.get("/gallery?camera=side", cookie=cookie)
    assert status == 200
    assert body.count(b'<li data-verdict="ng"') > 20
    assert b'data-verdict="ok"' not in body
    assert b"Older" in body or body.count(b'<li data-verdict="ng"') < 48
    name = body.split(b'src="/kept/side/')[1].split(b"?")[0].decode()
    status, headers, thumb = page.get(f"/kept/side/{name}?px=200", cookie=cookie)
    assert (status, headers["content-type"], thumb[:2]) == (200, "image/jpeg", b"\xff\xd8")
    status, headers, png = page.get(f"/kept/side/{name}", cookie=cookie)
    assert png[:4] == b"\x89PNG"
    epoch, seq = name.split("_")[1], int(name.split("_")[2])
    status, _, body = page.get(f"/part/side/{epoch}/{seq}", cookie=cookie)
    assert status == 200
    assert b"data-map=" in body
    status, reply = page.post(
        "/do/mark", {"camera": "side", "epoch": epoch, "seq": seq, "say": "good", "why": "seen"}, cookie=cookie
    )
    assert status == 200, reply
    _, _, body = page.get("/gallery?verdict=marked", cookie=cookie)
    assert body.count(b"<li data-verdict") == 1
    assert name.encode() in body
    _, headers, table = page.get("/gallery?camera=side&as=csv", cookie=cookie)
    rows = list(csv.DictReader(io.StringIO(table.decode("utf-8-sig"))))
    assert {row["verdict"] for row in rows} == {"ng"}
    assert "attachment" in headers["content-disposition"]
    _, _, data = page.get("/gallery?camera=side&as=zip", cookie=cookie)
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        names = found.namelist()
        assert names[-1] == "parts.csv"
        assert found.read(names[0])[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "path",
    [
        "/kept/top/..%2F..%2Fetc%2Fpasswd",
        "/kept/..%2Ftop/x.png",
        "/kept/top/2026-01-01T000000.000000_x_1_ok.png",
        "/part/top/nowhere/1",
        f"/part/top/nowhere/{10**25}",
        "/calibrate/a**b/report",
        "/camera/%3Cscript%3E",
        "/static/..%2Fapp.py",
    ],
)
def test_what_is_not_there_is_one_sentence(page: HmiProcess, path: str) -> None:
    status, headers, body = page.get(path, cookie=page.login("viewer", PASSWORD))
    assert status == 404
    assert b"<script>" not in body or headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "path", ["/do/reset", "/calibrate/top/begin", "/calibrate/top/stop", "/calibrate/top/rollback"]
)
def test_counts_and_calibrations_are_asked_for_by_their_role(page: HmiProcess, path: str) -> None:
    cookie = page.login("viewer", PASSWORD)
    known(page, cookie)
    status, reply = page.post(path, {"why": "tried", "run_name": "x"}, cookie=cookie)
    assert (status, reply["ok"]) == (403, False)
    assert page.get("/calibrate/top", cookie=cookie)[0] == 403


def test_who_is_taken_off_the_list_sees_no_more(line: DaemonProcess, tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    write_users(path, {"anna": new_user(Role.VIEWER, PASSWORD)})
    with (
        HmiProcess(tmp_path, line.endpoint, line.control, "--users", str(path)) as page,
        page.browser(cookie=page.login("anna", PASSWORD)) as browser,
    ):
        browser.take()
        write_users(path, {})
        with pytest.raises(ConnectionClosed) as closed:
            take_all(browser, answers=True)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_what_strangers_send_is_answered_and_no_traceback_is_written(page: HmiProcess) -> None:
    assert page.request("POST", "/login", b"x" * 100_000, {"origin": page.origin})[0] == 413
    assert page.request("POST", "/login", b"", {"origin": "http://["})[0] == 403
    assert "Traceback" not in page.log


@pytest.mark.parametrize(
    "query",
    [
        "verdict=maybe",
        "before=x",
        "since=yesterday",
        f"before={10**30}",
        "since=0001-01-01T00:00%2B14:00",
        "verdict=marked&camera=%00",
        "camera=../x",
        "before=-1",
    ],
)
def test_an_address_that_means_nothing_is_said(page: HmiProcess, query: str) -> None:
    assert page.get(f"/gallery?{query}", cookie=page.login("viewer", PASSWORD))[0] == 400


def test_both_languages(page: HmiProcess) -> None:
    cookie = page.login("viewer", PASSWORD)
    assert "所有相机" in page.get("/?language=zh", cookie=cookie)[2].decode()
    assert "所有相机" in page.get("/", cookie=cookie, accept_language="zh-CN,en;q=0.5")[2].decode()
    assert "All cameras" in page.get("/", cookie=cookie, accept_language="de,fr")[2].decode()


def test_counts_go_on_over_a_restart_of_the_page(line: DaemonProcess, tmp_path: Path) -> None:
    more = ("--config", str(line.config), "--state", str(tmp_path))

    def counted(page: HmiProcess) -> tuple[int, int]:
        with page.browser("?camera=side") as browser:
            update: dict[str, Any] = {"cameras": []}
            while not any("verdict" in one for one in update["cameras"]) or "side" not in update["shift"]["cameras"]:
                update = browser.take()[0]
            one = update["shift"]["cameras"]["side"]
            assert one["uncounted"] == 0
            return one["ok"] + one["ng"] + one["fault"], update["cameras"][0]["verdict"]["seq"]

    with HmiProcess(tmp_path, line.endpoint, line.control, *more) as page:
        count, seq = counted(page)
        page.process.send_signal(15)
        assert page.process.wait(20) == 0
    time.sleep(2)
    with HmiProcess(tmp_path, line.endpoint, line.control, *more) as page:
        again, later = counted(page)
        give_up_s = time.monotonic() + 20
        while again < count + later - seq and time.monotonic() < give_up_s:
            again, later = counted(page)
        assert abs(again - count - (later - seq)) <= 5, "what was said meanwhile was asked for"


def test_a_proxy_may_show_it_below_a_path_and_needs_a_login(line: DaemonProcess, users: Path, tmp_path: Path) -> None:
    with HmiProcess(tmp_path, line.endpoint, line.control, "--below", "/line1", "--users", str(users)) as page:
        for path in ("/line1/login", "/login"):
            status, _, body = page.get(path, x_forwarded_for="10.0.0.1")
            assert status == 200
            assert b'href="/line1/static/page.css"' in body
        assert page.get("/line1/static/page.css")[0] == 200
        assert page.get("/")[1]["location"] == "/line1/login"
    with HmiProcess(tmp_path, line.endpoint, line.control) as page:
        assert page.get("/")[0] == 200
        status, _, body = page.get("/", x_forwarded_for="10.0.0.1")
        assert status == 403
        assert b"--users" in body


def test_on_the_loopback_nobody_logs_in_but_says_who_they_are(line: DaemonProcess, tmp_path: Path) -> None:
    with HmiProcess(tmp_path, line.endpoint, line.control) as page:
        status, reply = page.post("/do/bypass", {"camera": "top", "seconds": 0, "why": "tried"})
        assert status == 400
        assert "who you are" in reply["message"]
        status, reply = page.post("/do/bypass", {"camera": "top", "seconds": 0, "why": "tried", "by": "carl"})
        assert status == 200, reply
    with HmiProcess(tmp_path, line.endpoint, line.control, "--anyone", "viewer") as page:
        status, reply = page.post("/do/bypass", {"camera": "top", "seconds": 0, "why": "tried", "by": "carl"})
        assert status == 403
        assert "Who has not logged in is viewer" in reply["message"]


def test_over_tls_the_cookie_goes_nowhere_else(line: DaemonProcess, users: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    more = ("--users", str(users), "--tls-cert", str(cert), "--tls-key", str(key))
    with HmiProcess(tmp_path, line.endpoint, line.control, *more, tls=context) as page:
        form = f"name=viewer&password={PASSWORD.replace(' ', '+')}".encode()
        _, headers, _ = page.request("POST", "/login", form, {"origin": page.origin})
        assert "secure" in headers["set-cookie"].lower()
        assert "max-age" in headers["strict-transport-security"]
        with page.browser("?camera=top", cookie=headers["set-cookie"].split(";")[0]) as browser:
            assert browser.take()[0]["n"] == 1


@pytest.mark.parametrize("wrong", ["missing", "locked", "foreign", "none"])
def test_a_journal_that_cannot_be_read_is_said_on_the_page(tmp_path: Path, wrong: str) -> None:
    with ExitStack() as stack:
        _journal_that_cannot_be_read(tmp_path, wrong, stack)


def _journal_that_cannot_be_read(tmp_path: Path, wrong: str, stack: ExitStack) -> None:
    journal = tmp_path / "journal.db"
    config = tmp_path / "c.yaml"
    kept = "null" if wrong == "none" else str(journal)
    cameras = 'cameras: [{name: top, source: "sim://line", model: /m}]'
    config.write_text(f"{cameras}\njournal: {{path: {kept}}}\narchive: {{max_gb: 0}}\n")
    if wrong == "foreign":
        journal.write_text("no database at all, but long enough to be looked at as if it were one" * 20)
    if wrong == "locked":
        locking = sqlite3.connect(journal, isolation_level=None)
        locking.executescript(
            f"{SCHEMA} PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; INSERT INTO epochs VALUES (1, 'e');"
        )
        stack.callback(locking.close)
    with HmiProcess(tmp_path, f"ipc://{tmp_path}/p", f"ipc://{tmp_path}/c", "--config", str(config)) as page:
        status, _, body = page.get("/gallery")
        assert status == 200
        assert b'<p class="trouble" role="alert">' in body
        assert b"journal" in body


def test_without_a_daemon_the_page_says_so(tmp_path: Path) -> None:
    with HmiProcess(tmp_path, f"ipc://{tmp_path}/p", f"ipc://{tmp_path}/c") as page, page.browser() as browser:
        update, _ = browser.take()
        assert (update["cameras"], update.get("daemon_age_ms")) == ([], None)
        status, reply = page.post("/do/bypass", {"camera": "top", "seconds": 0, "why": "x", "by": "carl"})
        assert status == 504
        assert "did not answer" in reply["message"]


def test_what_cannot_be_served_is_one_sentence(tmp_path: Path) -> None:
    port = free_port()
    for arguments, code, says in (
        (["--listen", f"0.0.0.0:{port}"], 2, "expected --users too"),
        (["--users", str(tmp_path / "none.json")], 2, "There is no users' file"),
        (["--shifts", "noon"], 2, "--shifts is 'noon'"),
        (["--published", "5556"], 2, "--published is '5556'"),
        (["--tls-cert", str(tmp_path / "x"), "--tls-key", str(tmp_path / "y")], 3, "certificate"),
        (["--listen", "192.0.2.1:1", "--users", "u", "--tls-cert", "c", "--tls-key", "k"], 2, "users' file"),
    ):
        result = run_here("hmi", *arguments)
        assert result.returncode == code, result.stderr
        assert says in result.stderr
        assert "Traceback" not in result.stderr


def test_users_are_made_and_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    made = run_here(
        "hmi-user", "anna", "--users", str(path), "--role", "engineer", "--password-stdin", typed=f"{PASSWORD}\n"
    )
    assert made.returncode == 0, made.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in path.read_text()
    for arguments, says in (
        (["../x"], "expected letters, digits"),
        (["bob", "--password-stdin"], "has 0 characters; expected at least 8"),
        (["bob", "--remove"], "has no user bob; it has: anna"),
    ):
        result = run_here("hmi-user", *arguments, "--users", str(path), typed="\n")
        assert result.returncode == 2
        assert says in result.stderr
    assert run_here("hmi-user", "anna", "--users", str(path), "--remove").returncode == 0
    assert json.loads(path.read_text())["users"] == {}


def test_the_control_socket_is_not_reached_by_the_page_alone(page: HmiProcess, line: DaemonProcess) -> None:
    """What the page may not ask for cannot be had through it, but the daemon's own socket still answers."""
    with Control(line.control) as control:
        assert control.status()["cameras"]
    assert page.post("/do/capture", {"camera": "top", "n": 1}, cookie=page.login("engineer", PASSWORD))[0] == 404
