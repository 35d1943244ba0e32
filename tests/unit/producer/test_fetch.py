"""Fetching against a local server: pinned bytes or nothing."""

from __future__ import annotations

import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import data
from producer.fetch import SOURCE_URL, checksums, fetch, is_complete
from shared.errors import ConfigError, DataError, TransportError

NAB = os.environ.get("LAPWING_NAB_DIR")
FILES = {"data/a/one.csv": b"timestamp,value\n" * 9000, "labels/two.json": b"{}"}
SUMS = {name: hashlib.sha256(body).hexdigest() for name, body in FILES.items()}


class Home:
    """A server of files that counts requests and can be made to misbehave."""

    def __init__(self):
        self.files = dict(FILES)
        self.asked = []
        # one per request: a status code, or "break" to end in the middle of the body
        self.trouble = []
        home = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.removeprefix("/nab/")
                home.asked.append(name)
                trouble = home.trouble.pop(0) if home.trouble else None
                if isinstance(trouble, int) or name not in home.files:
                    self.send_error(trouble or 404)
                    return
                body = home.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if trouble == "break" else body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/nab"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def home():
    made = Home()
    yield made
    made.close()


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_all_files_come_and_a_second_time_none(home, tmp_path):
    calls = []
    first = fetch(tmp_path, home.url, SUMS, progress=lambda *call: calls.append(call))
    assert files_in(tmp_path) == FILES
    assert first.written == tuple(FILES)
    assert calls == [("data/a/one.csv", 0, 2), ("labels/two.json", 1, 2)]
    again = fetch(tmp_path, home.url + "/", SUMS)
    assert (again.written, again.present) == ((), tuple(FILES))
    assert len(home.asked) == 2


def test_a_damaged_copy_is_replaced(home, tmp_path):
    fetch(tmp_path, home.url, SUMS)
    (tmp_path / "labels/two.json").write_bytes(b"{ }")
    assert fetch(tmp_path, home.url, SUMS).written == ("labels/two.json",)
    assert files_in(tmp_path) == FILES


def test_other_bytes_are_refused_and_nothing_is_left_behind(home, tmp_path):
    home.files["labels/two.json"] = b"[]"
    with pytest.raises(DataError) as raised:
        fetch(tmp_path, home.url, SUMS)
    for part in ("two.json", SUMS["labels/two.json"], hashlib.sha256(b"[]").hexdigest()):
        assert part in str(raised.value)
    assert files_in(tmp_path) == {"data/a/one.csv": FILES["data/a/one.csv"]}


@pytest.mark.parametrize("trouble", [503, "break"])
def test_a_passing_failure_is_tried_again(home, tmp_path, trouble):
    home.trouble = [trouble, trouble]
    fetch(tmp_path, home.url, SUMS)
    assert files_in(tmp_path) == FILES
    assert home.asked.count("data/a/one.csv") == 3


@pytest.mark.parametrize(("trouble", "asked"), [([503] * 3, 3), (["break"] * 3, 3), ([404], 1)])
def test_a_lasting_failure_is_named_and_leaves_nothing(home, tmp_path, trouble, asked):
    home.trouble = trouble
    with pytest.raises(TransportError, match=r"data/a/one\.csv"):
        fetch(tmp_path, home.url, SUMS)
    assert len(home.asked) == asked
    assert files_in(tmp_path) == {}


def test_offline_says_what_works_without(home, tmp_path):
    home.close()
    with pytest.raises(TransportError) as raised:
        fetch(tmp_path, home.url, SUMS)
    assert "cannot be reached" in str(raised.value)
    assert "lapwing produce --fleet" in str(raised.value)
    assert raised.value.exit_code == 1


def test_a_folder_that_cannot_be_written(home, tmp_path):
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(ConfigError, match="cannot be written"):
        fetch(tmp_path, home.url, SUMS)


def test_only_http(tmp_path):
    with pytest.raises(ConfigError, match="only http"):
        fetch(tmp_path, "file:///etc", SUMS)


@pytest.mark.parametrize(
    "line", ["abc  x", "0" * 64 + "  /etc/x", "0" * 64 + "  ../x", "0" * 64 + " x", "0" * 64]
)
def test_a_bad_checksum_list_is_named(line):
    with pytest.raises(ConfigError, match="line 2"):
        checksums(f"# comment\n{line}\n")


def test_the_pinned_list_names_the_cloudwatch_series_the_artificial_ones_and_the_labels(tmp_path):
    sums = checksums(data.text("nab.sha256"))
    assert sum(name.startswith("data/realAWSCloudwatch/") for name in sums) == 17
    assert sum(name.startswith("data/artificial") for name in sums) == 11
    assert [name for name in sums if not name.startswith("data/")] == [
        "labels/combined_windows.json"
    ]
    assert SOURCE_URL.endswith("/numenta/NAB/v1.1")
    assert not is_complete(tmp_path)


@pytest.mark.skipif(not NAB, reason="LAPWING_NAB_DIR does not name a folder with the NAB series")
def test_the_pinned_sums_are_those_of_nab(home, tmp_path):
    sums = {
        name: digest
        for name, digest in checksums(data.text("nab.sha256")).items()
        if name.startswith("data/")
    }
    home.files = {name: (Path(NAB) / name).read_bytes() for name in sums}
    assert len(fetch(tmp_path, home.url, sums).written) == 28
    assert is_complete(tmp_path)
