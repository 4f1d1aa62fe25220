"""The configuration: the contract's defaults, and every mistake told with its place, all at once."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path

import msgspec
import pytest
import yaml
from conftest import ROOT

from inspectd import config_file
from inspectd.addresses import is_loopback
from inspectd.config import CameraConfig, Config
from inspectd.config_file import load, parse
from inspectd.errors import UsageError

SHIPPED = ROOT / "configs" / "inspectd.yaml"
CAMERA = "cameras: [{name: top, source: 0, model: m%s}]\n"
CONTRACT = """
engine: {device: auto, precision: auto, max_batch: 16, batch_wait_ms: 2, threads: 0}
cameras:
  - {name: top, source: 0, model: m, threshold: null, mode: stream, looks: {best_of: 1, ng_if: 1},
     challenge: {good_every_h: null, bad_every_h: null},
     triggered_by: command, allow_arrival_time: false, synchronized: false, areas: null, recipes: null, ignore: [],
     shadow: null, policy: latest, deadline_ms: 200,
     trigger_delay_ms: 0, trigger_window_ms: null,
     roi: null, enabled: true, size: null, fps: null, format: null, exposure: null, gain: null,
     white_balance: null, features: {}, open_timeout_ms: 5000, read_timeout_ms: 1000, frozen_ms: 1000, loop: false}
publish: {bind: "tcp://127.0.0.1:5556", masks: all, frame_hz: 2, allow: null, next_bind: null}
control: {bind: "tcp://127.0.0.1:5557", allow: null, next_bind: null}
metrics: {listen: "127.0.0.1:9108", tls_cert: null, tls_key: null, token_file: null}
journal: {path: /var/lib/inspectd/journal.db, keep_days: 30, max_gb: 20}
archive: {path: /var/lib/inspectd/archive, max_gb: 20, ok_share: 0.001}
security: {curve_secret: null, next_secret: null}
"""


def plain(settings: Config) -> object:
    return msgspec.json.decode(msgspec.json.encode(settings))


def mistakes(text: str) -> list[str]:
    """Return the lines below the headline of the message that refuses `text`."""
    with pytest.raises(UsageError) as refused:
        parse(text)
    return [line.strip() for line in str(refused.value).splitlines()[1:]]


def test_the_smallest_configuration_has_the_defaults_of_the_contract() -> None:
    assert plain(parse(CAMERA % "")) == yaml.safe_load(CONTRACT)


@pytest.mark.parametrize(
    ("extra", "place", "value", "expected"),
    [
        ("deadline_ms: -1", "deadline_ms", "-1", "a number > 0 and <= 86400000"),
        ("deadline_ms: soon", "deadline_ms", "'soon'", "a number > 0 and <= 86400000"),
        ("deadline_ms: .inf", "deadline_ms", "inf", "a number > 0 and <= 86400000"),
        ("threshold: .nan", "threshold", "nan", "a number or null"),
        ("threshold: true", "threshold", "True", "a number or null"),
        ("mode: streem", "mode", "'streem'", "stream or trigger or part"),
        ("policy: 3", "policy", "3", "latest or every"),
        ("roi: [1, 2, 3]", "roi", "[1, 2, 3]", "a list of 4 whole numbers or null"),
        ("roi: [0, 0, 0, 5]", "roi", "[0, 0, 0, 5]", "a list of 4 whole numbers or null"),
        ("size: [1.5, 2]", "size", "[1.5, 2]", "a list of 2 whole numbers or null"),
        ("fps: 0", "fps", "0", "a number > 0 and <= 10000 or null"),
        ("format: MJPEG", "format", "'MJPEG'", "four letters such as MJPG or YUYV or null"),
        ("enabled: null", "enabled", "null", "true or false"),
        ("trigger_delay_ms: -1", "trigger_delay_ms", "-1", "a number >= 0 and <= 86400000"),
    ],
)
def test_a_mistake_is_named_with_place_value_and_expectation(extra: str, place: str, value: str, expected: str) -> None:
    assert mistakes(CAMERA % f", {extra}") == [f"cameras[0].{place} is {value}; expected {expected}"]


@pytest.mark.parametrize("name", ["Top", "../x", '""', "a b", "-a", '"top\\n"', "ä", "a" * 33, "1"])
def test_names_that_would_harm_topics_and_paths_are_refused(name: str) -> None:
    (mistake,) = mistakes(f"cameras: [{{name: {name}, source: 0, model: m}}]")
    assert mistake.startswith("cameras[0].name is ")
    assert "a lower-case name such as top" in mistake


@pytest.mark.parametrize("name", ["top", "cam-1", "0_a", "a" * 32])
def test_plain_names_are_taken(name: str) -> None:
    assert parse(f"cameras: [{{name: {name}, source: 0, model: m}}]").cameras[0].name == name


def test_all_mistakes_are_told_at_once() -> None:
    text = """
engine: {max_batch: 0, device: gpu}
cameras: [{name: Top, deadlin_ms: 3}, 7, {name: side, source: 0, model: m, gain: loud}]
publsh: {}
archive: {ok_share: 2}
"""
    told = "\n".join(mistakes(text))
    for place in (
        "engine.max_batch is 0; expected a whole number >= 1 and <= 256",
        "engine.device is 'gpu'",
        "cameras[0].name is 'Top'",
        "cameras[0].deadlin_ms is not a known key; did you mean deadline_ms?",
        "cameras[0].source is missing; expected a camera index from 0 or text",
        "cameras[0].model is missing; expected a folder that `inspectd calibrate` wrote",
        "cameras[1] is 7; expected a mapping",
        "cameras[2].gain is 'loud'",
        "publsh is not a known key; did you mean publish?",
        "archive.ok_share is 2",
    ):
        assert place in told
    assert len(told.splitlines()) == 10


def test_a_far_off_key_is_answered_with_the_list_of_keys() -> None:
    (mistake,) = mistakes("xyzzy: 1\n" + CAMERA % "")
    assert mistake == f"xyzzy is not a known key; expected one of {', '.join(Config.__struct_fields__)}"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "cameras is missing; expected a list with at least one camera"),
        ("[1]", "the file is [1]; expected a mapping with keys"),
        ("cameras: []", "cameras is []; expected a list with at least one camera"),
        ("cameras: null", "cameras is null; expected a list with at least one camera"),
        ("cameras: {a: 1}", "cameras is {'a': 1}; expected a list with at least one camera"),
        (CAMERA % "" + "engine: fast", "engine is 'fast'; expected a mapping with keys"),
    ],
)
def test_another_shape_is_told(text: str, mistake: str) -> None:
    assert mistakes(text) == [mistake]


def test_an_empty_section_means_its_defaults() -> None:
    assert parse(CAMERA % "" + "engine:\npublish:\n") == parse(CAMERA % "")


@pytest.mark.parametrize("text", [CAMERA % ", threshold: 1, threshold: 2", CAMERA % "" + CAMERA % ""])
def test_a_key_that_stands_there_twice_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"the key '(threshold|cameras)' stands there twice"):
        parse(text)


def test_duplicate_camera_names_are_refused() -> None:
    text = "cameras: [{name: a, source: 0, model: m}, {name: b, source: 1, model: m}, {name: a, source: 2, model: m}]"
    (mistake,) = mistakes(text)
    assert mistake.startswith("cameras[2].name is 'a', as cameras[0].name already is")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (CAMERA % "" + "publish: {allow: keys}", "publish.allow"),
        (CAMERA % "" + "metrics: {tls_cert: c.pem}", "metrics.tls_key"),
        (CAMERA % "" + "metrics: {tls_key: k.pem}", "metrics.tls_cert"),
        (CAMERA % "" + "metrics: {listen: '0.0.0.0:1', tls_cert: c, tls_key: k}", "metrics.listen"),
        (CAMERA % "" + "metrics: {listen: '0.0.0.0:1', token_file: t}", "metrics.listen"),
        (CAMERA % "" + "security: {curve_secret: k}", "security.curve_secret"),
        (CAMERA % ", enabled: false", "cameras"),
        ("cameras: [{name: top, source: -1, model: m}]", "cameras[0].source"),
        ("cameras: [{name: top, source: '', model: m}]", "cameras[0].source"),
        ("cameras: [{name: top, source: 0, model: ''}]", "cameras[0].model"),
    ],
)
def test_what_cannot_be_is_refused_and_not_ignored(text: str, place: str) -> None:
    (mistake,) = mistakes(text)
    assert re.match(re.escape(place) + r"( |:)", mistake)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "[::1]"])
def test_loopback_addresses_are_taken(host: str) -> None:
    assert is_loopback(f"{host}:9108")
    parse(CAMERA % "" + f"publish: {{bind: 'tcp://{host}:1'}}\nmetrics: {{listen: '{host}:2'}}")
    parse(CAMERA % "" + "publish: {bind: ipc:///run/inspectd/v}")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "*", "[::]", "192.168.1.5", "eth0", "example.org", "127.0.0.1.example.org"]
)
def test_addresses_that_others_reach_are_refused(host: str) -> None:
    text = CAMERA % "" + "".join(f"{s}: {{bind: 'tcp://{host}:1'}}\n" for s in ("publish", "control"))
    told = mistakes(text + f"metrics: {{listen: '{host}:2'}}\n")
    assert [mistake.split(" ")[0] for mistake in told] == ["publish.bind", "control.bind", "metrics.listen"]
    assert all("which others can reach" in mistake for mistake in told)


OPEN = "publish: {bind: 'tcp://0.0.0.0:1', allow: w}\ncontrol: {bind: 'tcp://eth0:2', allow: c}\n"


def test_with_tls_and_a_token_others_may_read_the_metrics() -> None:
    config = parse(CAMERA % "" + "metrics: {listen: '0.0.0.0:9108', tls_cert: c, tls_key: k, token_file: t}")
    assert (config.metrics.tls_cert, config.metrics.tls_key, config.metrics.token_file) == ("c", "k", "t")
    parse(CAMERA % "" + "metrics: {token_file: t}")


def test_a_digest_is_of_what_is_configured_and_shows_no_password() -> None:
    one, same, other = (CAMERA % "" for _ in range(3))
    other = other.replace("source: 0", "source: 1")
    assert parse(one).digest == parse("# a remark\n" + same).digest != parse(other).digest
    with_password = "cameras: [{name: top, source: 'rtsp://ann:%s@cam/1', model: m}]"
    assert parse(with_password % "secret").digest == parse(with_password % "other").digest


def test_with_keys_others_may_reach_a_socket() -> None:
    config = parse(CAMERA % "" + OPEN + "security: {curve_secret: s}")
    assert (config.publish.allow, config.control.allow, config.security.curve_secret) == ("w", "c", "s")
    parse(CAMERA % "" + OPEN.splitlines()[0] + "\nsecurity: {curve_secret: s}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (OPEN, ["expected security.curve_secret too", "expected security.curve_secret too"]),
        (
            OPEN.replace(", allow: c", "") + "security: {curve_secret: s}",
            ["expected control.allow too"],
        ),
        (OPEN.replace("allow: w", "allow: ''") + "security: {curve_secret: s}", ["expected publish.allow too"]),
        (
            "publish: {bind: 'tcp://*:1'}",
            ["publish.bind is 'tcp://.:1', .* expected publish.allow and security.curve_secret too .*keygen"],
        ),
        ("control: {allow: c}", ["control.allow is set, but .* nobody is asked for a key"]),
    ],
)
def test_keys_are_asked_for_where_they_are_needed_and_nowhere_else(text: str, says: list[str]) -> None:
    told = mistakes(CAMERA % "" + text)
    assert len(told) == len(says)
    for mistake, part in zip(told, says, strict=True):
        assert re.search(part, mistake), mistake


NO_ADDRESS = "127.0.0.1:1 tcp://127.0.0.1 tcp://127.0.0.1:65536 udp://127.0.0.1:1 tcp://:1 tcp://127.0.0.1:x ipc://"


@pytest.mark.parametrize("bind", ["", *NO_ADDRESS.split()])
def test_what_is_no_address_is_refused(bind: str) -> None:
    (mistake,) = mistakes(CAMERA % "" + f"publish: {{bind: '{bind}'}}")
    assert mistake == f"publish.bind is {bind!r}; expected tcp://HOST:PORT or ipc://PATH"


def test_an_open_address_is_told_beside_a_misspelt_key() -> None:
    told = mistakes(CAMERA % ", deadlin_ms: 3" + "publish: {bind: 'tcp://0.0.0.0:1'}")
    assert [mistake.split(" ")[0] for mistake in told] == ["cameras[0].deadlin_ms", "publish.bind"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"a\0b", b"a: [", b"%PDF-1.4\n%\xe2\xe3"])
def test_a_file_that_cannot_be_read_is_one_sentence_with_its_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "inspectd.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(str(path))) as refused:
        load(path)
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(UsageError, match="directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.abort []",
        "{[1]: 2}",
        pytest.param("[" * 2000 + "]" * 2000, id="deep"),
        "2020-13-45",
        "!!int x",
        "!!bool x",
        "!!timestamp x",
        pytest.param("9" * 5000, id="digits"),
        pytest.param("0x" + "f" * 5000, id="hex"),
    ],
)
def test_hostile_yaml_is_refused_in_a_sentence(value: str) -> None:
    with pytest.raises(UsageError):
        parse(CAMERA % f", threshold: {value}")


def test_an_alias_bomb_is_not_written_out() -> None:
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 7)]
    text = "a0: &a0 [x]\n" + "\n".join(levels) + "\ncameras: [{name: *a6, source: 0, model: m}]"
    tracemalloc.start()
    try:
        assert "cameras[0].name is [[[" in "\n".join(mistakes(text))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_the_shipped_file_lists_every_key_with_the_default_of_the_code() -> None:
    raw = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    (camera,) = raw.pop("cameras")
    assert plain(load(SHIPPED)) == {**raw, "cameras": [camera]}
    assert list(camera) == list(CameraConfig.__struct_fields__)
    own = {key: camera.pop(key) for key in ("name", "source", "model")}
    defaults = json.loads(msgspec.json.encode(CameraConfig(**own)))
    assert {**defaults, **camera} == defaults
    defaults = msgspec.to_builtins(parse(CAMERA % ""))
    assert raw == {section: keys for section, keys in defaults.items() if section != "cameras"}


def test_every_key_of_the_shipped_file_has_a_comment_on_or_above_its_line() -> None:
    silent, covered = [], False
    for line in SHIPPED.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            covered = bool(line.strip())
        elif (key := re.match(r"\s*(?:- )?(\w+): ", line)) and not covered and "#" not in line:
            silent.append(key[1])
        # a comment at the margin speaks for all lines below it, another one for the next line
        covered = covered and not (line.startswith(" ") and not line.lstrip().startswith("#"))
    assert silent == []


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ("publish: {bind: 'tcp://127.0.0.1:7000'}\ncontrol: {bind: 'tcp://127.0.0.1:7000'}", "control.bind"),
        ("publish: {bind: 'tcp://localhost:7000'}\nmetrics: {listen: '127.0.0.1:7000'}", "metrics.listen"),
        (
            "publish: {bind: 'tcp://0.0.0.0:1', allow: a, next_bind: 'tcp://0.0.0.0:1'}\n"
            "security: {curve_secret: x, next_secret: y}",
            "publish.next_bind",
        ),
        ("control: {bind: 'ipc:///tmp/a'}\npublish: {bind: 'ipc:///tmp/a'}", "control.bind"),
    ],
)
def test_two_sections_on_one_address_are_found(sections: str, says: str) -> None:
    (mistake,) = mistakes(CAMERA % "" + sections)
    assert mistake.startswith(says)
    assert "expected another port" in mistake


def test_any_free_port_may_be_asked_for_twice() -> None:
    config_file.parse(CAMERA % "" + "publish: {bind: 'tcp://127.0.0.1:0'}\ncontrol: {bind: 'tcp://127.0.0.1:0'}")


def test_a_mistake_shows_no_password() -> None:
    text = "cameras:\n- {name: a, source: 'rtsp://admin:S3cret@h/x', model: [rtsp://admin:S3cret@h/x]}\n: {bad"
    with pytest.raises(UsageError) as error:
        config_file.parse(text)
    assert "S3cret" not in str(error.value)


NEXT = "publish: {bind: 'tcp://0.0.0.0:1', allow: a, next_bind: %s}\nsecurity: {curve_secret: x, next_secret: %s}\n"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("publish: {next_bind: 'tcp://0.0.0.0:7000'}\n", "publish.next_bind"),
        (NEXT % ("'tcp://0.0.0.0:7'", "null"), "publish.next_bind"),
        (NEXT % ("'tcp://127.0.0.1:7'", "y"), "publish.next_bind"),
        (NEXT % ("'7'", "y"), "publish.next_bind"),
        (NEXT % ("null", "y"), "security.next_secret"),
    ],
)
def test_a_next_key_and_its_address_belong_together(text: str, where: str) -> None:
    (told,) = mistakes(CAMERA % "" + text)
    assert told.startswith(where)


def test_a_next_key_beside_the_present_one() -> None:
    parse(CAMERA % "" + NEXT % ("'tcp://0.0.0.0:7'", "y"))
