"""The operator's page in a browser: Debian's Chromium, driven by Playwright, beside a real daemon."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import PATH, chromium
from daemon_process import DaemonProcess
from hmi_process import HmiProcess
from run_here import run_here

from inspectd.hmi.accounts import Role, new_user, write_users
from inspectd.hmi.app import HERE
from inspectd.sim.line import Line

pytestmark = [
    pytest.mark.skipif(PATH is None, reason="Debian's package chromium is not installed"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SIZE = "width=320&height=240"
SEED, DEFECTS = 5, 0.5
AXE, ACORN = "axe-core@4.14.1", "acorn@8.15.0"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the simulated line, calibrated as a user does it."""
    folder = tmp_path_factory.mktemp("model")
    source = f"sim://line?seed=1005&parts=80&{SIZE}"
    command = [sys.executable, "-m", "inspectd", "calibrate", "--camera", source, "--results_path", str(folder)]
    subprocess.run([*command, "--run_name", "line"], check=True, capture_output=True, timeout=400)
    for name in ("top", "good"):
        run = str(folder / "project" / "group" / "line")
        placed = run_here("install", run, name, "--models", str(folder / "models"))
        assert placed.returncode == 0, placed.stderr
    return folder / "models" / "top"


@pytest.fixture(scope="module")
def line(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon with a camera whose parts have defects, one whose parts are good, and one that is not there."""
    folder = tmp_path_factory.mktemp("line")
    source, good = f"sim://line?seed={SEED}&fps=4&defects={DEFECTS}&{SIZE}", f"sim://line?seed=6&fps=4&{SIZE}"
    cameras = (
        f'{{name: top, source: "{source}", model: {model}, deadline_ms: 3000}}, '
        f'{{name: good, source: "{good}", model: {model.with_name("good")}, deadline_ms: 3000}}, '
        f'{{name: side, source: "http://127.0.0.1:9/nobody", model: {model}, deadline_ms: 3000}}'
    )
    with DaemonProcess(folder / "d", cameras) as daemon:
        daemon.listen(lambda d: any(one["camera"] == "top" for one in d.verdicts), 120)
        yield daemon


@pytest.fixture(scope="module")
def page_server(line: DaemonProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HmiProcess]:
    folder = tmp_path_factory.mktemp("hmi")
    more = ("--config", str(line.config), "--state", str(folder))
    with HmiProcess(folder, line.endpoint, line.control, *more) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab of 1024 × 768 that reports every mistake of its scripts."""
    context = browser.new_context(viewport={"width": 1024, "height": 768}, locale="en-GB")
    tab = context.new_page()
    mistakes: list[str] = []
    tab.on("pageerror", lambda error: mistakes.append(str(error)))
    tab.on("console", lambda said: mistakes.append(said.text) if said.type == "error" else None)
    tab.mistakes = mistakes
    yield tab
    context.close()
    serious = [one for one in mistakes if "WebSocket" not in one and "Failed to load resource" not in one]
    assert not serious


def until(page: Any, expression: str, timeout_s: float = 30) -> None:
    """Wait for a condition of the page (Playwright's own way is an eval, which the page's policy forbids)."""
    give_up_s = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < give_up_s, f"it did not come: {expression}\n{page.inner_text('body')}"
        page.wait_for_timeout(100)


def test_the_wall_shows_each_camera_with_its_verdict_in_word_shape_and_colour(
    page: Any, page_server: HmiProcess
) -> None:
    page.goto(f"{page_server.origin}/")
    page.wait_for_selector('.tile[data-camera="top"][data-verdict="ok"]', timeout=30_000)
    page.wait_for_selector('.tile[data-camera="top"][data-verdict="ng"]', timeout=30_000)
    tile = page.locator('.tile[data-camera="top"]')
    assert tile.locator(".word").inner_text().lower() == "ng"
    assert tile.locator(".shape.ng").is_visible()
    assert " / " in tile.locator(".figures").inner_text()
    until(page, "document.querySelector('.tile[data-camera=top] canvas.picture').width === 320")
    assert page.locator("#alert").is_hidden()


def test_the_overlay_lies_on_the_true_defect(page: Any, page_server: HmiProcess, line: DaemonProcess) -> None:
    page.goto(f"{page_server.origin}/camera/top")
    until(page, "window.inspectd.tile && window.inspectd.tile.shown && window.inspectd.tile.shown.masks.length")
    truth = Line(SEED, width=320, height=240, defects=DEFECTS)
    hits = 0
    for _ in range(80):
        if hits == 3:
            break
        # what is drawn over the picture: the difference between the canvas with the map and without it
        found = page.evaluate(
            """() => {
              const tile = window.inspectd.tile, canvas = tile.canvas, header = tile.shown.header;
              const read = (strength) => {
                window.inspectd.draw(canvas, { header: Object.assign({}, header, { regions: [] }),
                  image: tile.shown.image, masks: tile.shown.masks }, strength);
                return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
              };
              const plain = read(0), veiled = read(1), out = [];
              for (let i = 0; i < plain.length; i += 4) { out.push(Math.abs(plain[i + 1] - veiled[i + 1])); }
              return { frame: header.frame, part: header.part, verdict: header.verdict, w: canvas.width, diff: out };
            }"""
        )
        if found["verdict"] == "ng":
            drawn = np.array(found["diff"], np.float32).reshape(-1, found["w"])
            mask = truth.truth_mask(int(found["part"].rsplit("-")[-1])) > 0
            if mask.any():
                strong = drawn >= np.quantile(drawn, 0.99)
                y, x = (np.mean(one) for one in np.nonzero(strong & (drawn > 20)))
                ys, xs = np.nonzero(mask)
                distance = np.hypot(ys - y, xs - x).min()
                assert distance < 24, f"part {found['part']}: the map lies {distance:.0f} pixels beside the defect"
                hits += 1
        page.wait_for_timeout(600)
    assert hits == 3


def test_a_verdict_is_on_the_page_soon_after_it_was_published(page: Any, page_server: HmiProcess) -> None:
    page.goto(f"{page_server.origin}/")
    page.wait_for_selector('.tile[data-camera="top"] .word:not(:empty)')
    ages = page.evaluate(
        """() => new Promise((done) => {
          const ages = [], t0 = performance.now();
          let last = 0;
          const Tile = window.inspectd.Tile, take = Tile.prototype.take;
          Tile.prototype.take = function (update, atMs) {
            take.call(this, update, atMs);
            if (this.name === "top" && update.verdict && update.verdict.seq !== last) {
              last = update.verdict.seq;
              ages.push([last, Date.now()]);
            }
            if (ages.length === 24 || performance.now() - t0 > 15000) { Tile.prototype.take = take; done(ages); }
          };
        })"""
    )
    published = {}
    from inspectd.client import Control  # what the daemon says of those verdicts

    with Control(page_server.control) as control:
        first = min(seq for seq, _ in ages)
        for one in control.verdicts("top", first - 1).verdicts:
            published[one.seq] = one.t.published
    offset_ns = time.time_ns() - time.monotonic_ns()
    waits = sorted(at_ms - (published[seq] + offset_ns) / 1e6 for seq, at_ms in ages if seq in published)
    assert len(waits) > 10
    assert waits[len(waits) // 2] < 1000, waits


def test_a_camera_that_is_lost_is_unmistakable(page: Any, page_server: HmiProcess) -> None:
    page.goto(f"{page_server.origin}/")
    tile = page.locator('.tile[data-camera="side"]')
    page.wait_for_selector('.tile[data-camera="side"][data-verdict="fault"]', timeout=60_000)
    assert tile.locator(".word").inner_text().lower() == "not inspecting"
    assert tile.locator(".shape.fault").is_visible()
    until(page, "document.querySelector('.tile[data-camera=side] .advice').textContent.includes('power')")


def test_a_daemon_that_stops_is_unmistakable_and_so_is_its_return(
    page: Any, page_server: HmiProcess, line: DaemonProcess
) -> None:
    page.goto(f"{page_server.origin}/")
    page.wait_for_selector('.tile[data-camera="top"]:not(.stale)')
    line.process.send_signal(signal.SIGSTOP)
    try:
        page.wait_for_selector('.tile[data-camera="top"].stale', timeout=5000)
        assert "stale" in page.locator('.tile[data-camera="top"] .age').inner_text()
        page.wait_for_selector("#alert:not([hidden])", timeout=5000)
        assert page.locator("#alert").inner_text() == "The daemon is gone. Stop the line."
    finally:
        line.process.send_signal(signal.SIGCONT)
    page.wait_for_selector("#alert[hidden]", state="attached", timeout=10_000)
    page.wait_for_selector('.tile[data-camera="top"]:not(.stale)', timeout=10_000)


def test_a_server_that_stalls_is_unmistakable(page: Any, page_server: HmiProcess) -> None:
    page.goto(f"{page_server.origin}/")
    page.wait_for_selector('.tile[data-camera="top"]:not(.stale)')
    os.kill(page_server.process.pid, signal.SIGSTOP)
    try:
        page.wait_for_selector('.tile[data-camera="top"].stale', timeout=5000)
        page.wait_for_selector("#alert:not([hidden])", timeout=5000)
        assert "No connection to the server of this page" in page.locator("#alert").inner_text()
    finally:
        os.kill(page_server.process.pid, signal.SIGCONT)
    page.wait_for_selector("#alert[hidden]", state="attached", timeout=10_000)


def test_a_command_from_the_page_is_done_shown_and_audited(
    page: Any, page_server: HmiProcess, line: DaemonProcess
) -> None:
    page.goto(f"{page_server.origin}/camera/top")
    form = page.locator('form[data-do="threshold"]')
    assert form.locator("[data-set]").is_disabled()
    until(page, "window.inspectd.tile.verdict")
    value = round(page.evaluate("window.inspectd.tile.verdict.threshold") * 1.02, 2)
    form.locator("input").fill(str(value))
    form.locator("[data-try]").click()
    page.wait_for_selector('form[data-do="threshold"] [data-set]:enabled')
    assert "would be accepted that were rejected" in form.locator(".effect").inner_text()
    form.locator("[data-set]").click()
    page.wait_for_selector('#said[data-kind="bad"]')
    assert "Say who you are" in page.locator("#said").inner_text()
    page.fill("#by", "anna")
    page.fill("#why", "tried from the page")
    form.locator("input").fill(str(value))
    form.locator("[data-try]").click()
    page.wait_for_selector('form[data-do="threshold"] [data-set]:enabled')
    form.locator("[data-set]").click()
    page.wait_for_selector('#said[data-kind="good"]')
    until(page, f"window.inspectd.tile.verdict.threshold === {value}")
    page.locator('form[data-do="revert"] button').click()
    page.wait_for_selector('#said[data-kind="good"]')


def test_by_keyboard_alone(page: Any, page_server: HmiProcess) -> None:
    page.goto(f"{page_server.origin}/")
    page.wait_for_selector('.tile[data-camera="top"]')
    for _ in range(12):
        page.keyboard.press("Tab")
        if (
            page.evaluate("document.activeElement.className") == "name"
            and page.evaluate("document.activeElement.textContent") == "top"
        ):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/camera/top")
    page.focus("#by")
    page.keyboard.type("anna")
    page.keyboard.press("Tab")
    page.keyboard.type("by keyboard")
    for _ in range(10):
        page.keyboard.press("Tab")
        if (
            page.evaluate("document.activeElement.closest('form') && document.activeElement.closest('form').dataset.do")
            == "reset"
        ):
            break
    page.keyboard.press("Enter")
    page.wait_for_selector('#said[data-kind="good"]')


def test_a_login_in_a_browser(browser: Any, line: DaemonProcess, tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    write_users(users, {"anna": new_user(Role.VIEWER, "correct horse")})
    with HmiProcess(tmp_path, line.endpoint, line.control, "--users", str(users)) as server:
        context = browser.new_context()
        tab = context.new_page()
        tab.goto(f"{server.origin}/camera/top")
        tab.wait_for_url("**/login")
        tab.fill('input[name="name"]', "anna")
        tab.fill('input[name="password"]', "wrong")
        tab.keyboard.press("Enter")
        tab.wait_for_selector(".wrong")
        tab.fill('input[name="name"]', "anna")
        tab.fill('input[name="password"]', "correct horse")
        tab.keyboard.press("Enter")
        tab.wait_for_selector('.tile[data-camera="top"]')
        assert "anna, viewer" in tab.inner_text("header")
        tab.goto(f"{server.origin}/camera/top")
        assert tab.locator(".commands").count() == 0, "a viewer commands nothing"
        tab.click("header form button")
        tab.wait_for_url("**/login")
        context.close()


def test_in_chinese(page: Any, page_server: HmiProcess) -> None:
    page.goto(f"{page_server.origin}/?language=zh")
    page.wait_for_selector('.tile[data-camera="top"] .word:not(:empty)')
    assert page.locator('.tile[data-camera="top"] .word').inner_text() in ("合格", "不合格", "未检")
    page.goto(f"{page_server.origin}/camera/top")
    assert "触发" in page.locator('form[data-do="trigger"] button').inner_text()


def test_names_with_markup_are_text(page: Any, page_server: HmiProcess, line: DaemonProcess) -> None:
    page.goto(f"{page_server.origin}/gallery?recipe=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    assert page.locator("main img").count() == 0
    assert page.locator('input[name="recipe"]').input_value() == "<img src=x onerror=alert(1)>"


def test_the_gallery_shows_a_part_large_with_its_map(page: Any, page_server: HmiProcess) -> None:
    page.goto(f"{page_server.origin}/gallery?camera=top&verdict=ng")
    page.locator(".gallery li a").first.click()
    page.wait_for_url("**/part/top/**")
    until(page, "document.getElementById('picture').width === 320")
    page.fill("#by", "anna")
    page.fill("#why", "a scratch")
    page.click('button[data-say="bad"]')
    page.wait_for_selector('#said[data-kind="good"]')
    page.goto(f"{page_server.origin}/gallery?verdict=marked")
    assert page.locator(".gallery li").count() >= 1


def test_a_camera_is_calibrated_installed_and_rolled_back_from_the_page(
    page: Any, page_server: HmiProcess, line: DaemonProcess
) -> None:
    line.listen(lambda d: any(one["camera"] == "good" for one in d.verdicts))
    before = next(one["model"] for one in reversed(line.verdicts) if one["camera"] == "good")
    page.goto(f"{page_server.origin}/calibrate/good")
    page.fill("#by", "anna")
    page.fill("#why", "a new lamp")
    page.fill('input[name="parts"]', "12")
    page.click('button[data-what="begin"]')
    page.wait_for_selector('button[data-what="stop"]:visible')
    until(page, "parseInt(document.getElementById('figures').textContent) >= 3")
    page.click('button[data-what="stop"]')
    page.wait_for_selector('button[data-what="resume"]:visible', timeout=60_000)
    page.click('button[data-what="resume"]')
    page.wait_for_selector("#whole:visible", timeout=300_000)
    status, headers, report = page_server.get("/calibrate/good/report")
    assert (status, b"<html" in report) == (200, True)
    assert "sandbox" in headers["content-security-policy"]
    page.click('button[data-what="install"]')
    page.wait_for_selector('#said[data-kind="good"]', timeout=120_000)
    assert "is judged by" in page.locator("#said").inner_text()
    line.listen(lambda d: next(one["model"] for one in reversed(d.verdicts) if one["camera"] == "good") != before, 60)
    page.click('button[data-what="rollback"]')
    until(page, "document.getElementById('said').textContent.includes('judged by')", 120)
    line.listen(lambda d: next(one["model"] for one in reversed(d.verdicts) if one["camera"] == "good") == before, 60)


def from_npm(folder: Path, package: str, name: str) -> Path:
    """Return a file of one of npm's packages; the test is skipped where it cannot be had, and says so."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"{package} comes from npm, which is not installed")
    done = subprocess.run([npm, "pack", "--silent", package], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{package} could not be had from npm: {done.stderr.strip()[-200:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extract(f"package/{name}", folder, filter="data")
    return folder / "package" / name


def test_a_browser_of_2016_understands_every_script(tmp_path: Path) -> None:
    acorn = from_npm(tmp_path, ACORN, "dist/acorn.js")
    scripts = sorted((HERE / "static").rglob("*.js"))
    assert len(scripts) > 8
    parse = "require(process.argv[1]).parse(require('fs').readFileSync(process.argv[2], 'utf8'), {ecmaVersion: 2015})"
    for script in scripts:
        done = subprocess.run(["node", "-e", parse, acorn, script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script.name}: {done.stderr}"


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deque's rules of accessibility."""
    return from_npm(tmp_path_factory.mktemp("axe"), AXE, "axe.min.js")


@pytest.mark.parametrize("path", ["/", "/camera/top", "/camera/side", "/gallery", "/calibrate/top", "/?language=zh"])
def test_nothing_serious_keeps_anybody_out(browser: Any, page_server: HmiProcess, axe: Path, path: str) -> None:
    context = browser.new_context(bypass_csp=True, viewport={"width": 1024, "height": 768})
    tab = context.new_page()
    tab.goto(f"{page_server.origin}{path}")
    tab.wait_for_timeout(1500)
    tab.add_script_tag(path=axe)
    found = tab.evaluate("axe.run().then((found) => found.violations.map((v) => [v.impact, v.id, v.nodes[0].html]))")
    context.close()
    assert [one for one in found if one[0] in ("serious", "critical")] == []
