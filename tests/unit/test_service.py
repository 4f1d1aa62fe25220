"""Installing as a service, into the folder of an image: each thing is said, and nobody's changes are lost."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from inspectd import service as module
from inspectd.errors import StartError
from inspectd.service import COMPLETIONS, CONFIG, DATA, IN_UNIT, NOTED, PROGRAM, SETTINGS, UNIT, UNITS, Machine, Service

ALERTS = SETTINGS / "prometheus" / "alerts.yaml"


class Image:
    """The folder of an image, and what was said."""

    def __init__(self, root: Path, program: str = IN_UNIT) -> None:
        self.root = root
        self.said: list[str] = []
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc" / "group").write_text("root:x:0:\nvideo:x:44:\nrender:x:106:\n")
        machine = Machine(root, Path(program), Path("/usr/bin/python3.11"))
        self.service = Service(machine, self.said.append, {shell: f"# {shell}\n" for shell in COMPLETIONS})

    def at(self, path: Path) -> Path:
        return self.service.machine.at(path)

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())
        return {str(path.relative_to(self.root)): path.read_bytes() for path in found}

    def again(self, what: str) -> list[str]:
        """Install, upgrade or remove; return what was said."""
        self.said.clear()
        if what == "upgrade":
            self.service.upgrade(restarts=False)
        else:
            getattr(self.service, what)()
        return list(self.said)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    one = Image(tmp_path)
    one.service.install()
    return one


def test_everything_is_put_in_place_and_said(image: Image) -> None:
    for path in (UNITS / UNIT, CONFIG, ALERTS, SETTINGS / "grafana" / "inspectd.json", *COMPLETIONS.values()):
        assert image.at(path).is_file(), path
        assert stat.S_IMODE(image.at(path).stat().st_mode) == 0o644, path
        assert any(f"wrote {path}" in line for line in image.said), path
    assert stat.S_IMODE(image.at(SETTINGS / "credentials").stat().st_mode) == 0o700
    assert image.at(PROGRAM).readlink() == Path(IN_UNIT)


def test_again_nothing_is_changed(image: Image) -> None:
    before = image.files()
    said = image.again("install")
    assert image.files() == before
    assert not any(line.startswith(("wrote", "replaced", "made", "linked")) for line in said)
    assert image.again("upgrade")[0].endswith("is as it should be")


def test_the_unit_calls_the_program_that_is_installed(tmp_path: Path) -> None:
    image = Image(tmp_path, "/srv/line/bin/inspectd")
    image.service.install()
    text = image.at(UNITS / UNIT).read_text()
    assert "ExecStart=/srv/line/bin/inspectd run --config /etc/inspectd/inspectd.yaml" in text
    assert IN_UNIT not in text


def test_an_upgrade_brings_what_is_new_and_keeps_what_is_yours(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    image.at(CONFIG).write_text("cameras: mine\n")
    secret = image.at(SETTINGS / "credentials" / "line3.key_secret")
    secret.write_text("secret")
    image.at(ALERTS).write_text("groups: [mine]\n")
    shipped = module._shipped
    monkeypatch.setattr(module, "_shipped", lambda name: shipped(name) + "# newer\n")
    said = image.again("upgrade")
    assert image.at(CONFIG).read_text() == "cameras: mine\n"
    assert secret.read_text() == "secret"
    assert image.at(ALERTS).read_text() == "groups: [mine]\n"
    assert image.at(ALERTS.with_name("alerts.yaml.new")).read_text().endswith("# newer\n")
    assert f"kept {ALERTS}, which was changed here; what this version brings is {ALERTS}.new" in said
    assert image.at(UNITS / UNIT).read_text().endswith("# newer\n")
    assert f"replaced {UNITS / UNIT}" in said


def test_who_takes_over_what_is_new_is_asked_no_more(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    image.at(ALERTS).write_text("groups: [mine]\n")
    image.again("upgrade")
    beside = image.at(ALERTS.with_name("alerts.yaml.new"))
    beside.replace(image.at(ALERTS))
    image.again("upgrade")
    shipped = module._shipped
    monkeypatch.setattr(module, "_shipped", lambda name: shipped(name) + "# newer\n")
    assert f"replaced {ALERTS}" in image.again("upgrade")
    assert not beside.exists()


def test_a_unit_that_was_there_before_is_kept(tmp_path: Path) -> None:
    image = Image(tmp_path)
    image.at(UNITS).mkdir(parents=True)
    image.at(UNITS / UNIT).write_text("[Service]\nExecStart=/mine\n")
    image.service.install()
    assert image.at(UNITS / UNIT).read_text() == "[Service]\nExecStart=/mine\n"
    assert image.at(UNITS / f"{UNIT}.new").exists()


def test_removing_leaves_data_and_what_was_changed(image: Image) -> None:
    image.at(DATA).mkdir(parents=True)
    (image.at(DATA) / "journal.db").write_bytes(b"journal")
    image.at(CONFIG).write_text("cameras: mine\n")
    image.at(ALERTS).write_text("groups: [mine]\n")
    said = image.again("remove")
    assert sorted(image.files()) == [
        "etc/group",
        str(NOTED.relative_to("/")),
        str(CONFIG.relative_to("/")),
        str(ALERTS.relative_to("/")),
        "var/lib/inspectd/journal.db",
    ]
    assert not image.at(PROGRAM).is_symlink()
    assert f"kept {ALERTS}, which was changed here" in said
    assert said[-1].startswith("kept /etc/inspectd and /var/lib/inspectd: configuration, keys, models")
    image.again("install")
    assert image.at(CONFIG).read_text() == "cameras: mine\n"


def test_removing_twice_says_nothing_was_there(image: Image) -> None:
    image.at(CONFIG).unlink()
    image.again("remove")
    assert sorted(image.files()) == ["etc/group"]
    assert not image.at(SETTINGS).exists()
    assert image.again("remove") == []


def test_an_upgrade_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="expected `inspectd service install`"):
        Image(tmp_path).service.upgrade(restarts=False)


def test_a_note_that_cannot_be_read_costs_nobody_a_change(image: Image) -> None:
    image.at(ALERTS).write_text("groups: [mine]\n")
    image.at(NOTED).write_text("{")
    said = image.again("upgrade")
    assert f"{NOTED} cannot be read: what lies there counts as changed by hand" in said
    assert image.at(ALERTS).read_text() == "groups: [mine]\n"


@pytest.mark.parametrize("program", ["/home/ann/.venv/bin/inspectd", "/root/venv/bin/inspectd"])
def test_a_program_that_the_unit_cannot_see_is_refused_before_anything_is_done(tmp_path: Path, program: str) -> None:
    image = Image(tmp_path, program)
    with pytest.raises(StartError, match="which a service with ProtectHome does not see; install it into /opt"):
        image.service.install()
    assert sorted(image.files()) == ["etc/group"]


def test_an_image_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "gone", Path(IN_UNIT), Path("/usr/bin/python3"))
    with pytest.raises(StartError, match="gone is no folder; expected that of an image"):
        Service(machine, print).install()


def test_on_a_machine_it_needs_root_and_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = Service(Machine(Path("/"), Path(IN_UNIT), Path("/usr/bin/python3")), print)
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    with pytest.raises(StartError, match=r"needs root: use sudo. Nothing was changed."):
        here.install()
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    monkeypatch.setattr(module, "SYSTEMD", tmp_path / "none")
    with pytest.raises(StartError, match=r"was not started by systemd .*Nothing was changed."):
        here.remove()
