"""Notices are read from a server on this machine that answers as Google's does; no other address is asked here."""

import contextlib
import http.server
import threading

import pytest

from dtr1_jax.run import cloud_notices, interrupt


class Metadata(http.server.ThreadingHTTPServer):
    """Answers with `values`, and keeps the requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.values = {"preempted": "FALSE", "maintenance-event": "NONE"}
        self.flavor, self.requests = "Google", []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        value = self.server.values.get(self.path.removeprefix("/computeMetadata/v1/instance/"))
        self.send_response(404 if value is None else 200)
        self.send_header("Metadata-Flavor", self.server.flavor)
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write((value or "no").encode())

    def log_message(self, *args):
        """Nothing is logged."""


@pytest.fixture
def server():
    with Metadata() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def host(server) -> str:
    return f"127.0.0.1:{server.server_port}"


def watched(server, *states):
    """What a watch says while the server goes through these states, the last of which ends it."""
    said, rest = [], list(states)

    class Turns(threading.Event):
        def wait(self, timeout=None):
            if rest:
                server.values.update(rest.pop(0))
            else:
                self.set()

    on_save, on_stop = (lambda text, name=name: said.append(name) for name in ("save", "stop"))
    cloud_notices.watch(Turns(), on_save, on_stop, host(server))
    return said, len(rest)


TERMINATE = {"maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE"}
MIGRATE, NONE = {"maintenance-event": "MIGRATE_ON_HOST_MAINTENANCE"}, {"maintenance-event": "NONE"}


def test_each_notice_is_said_once(server):
    assert watched(server, {}, {}) == ([], 0)
    assert watched(server, MIGRATE, NONE) == ([], 0)
    assert watched(server, TERMINATE, {}, NONE, TERMINATE, {}) == (["save", "save"], 0)
    server.values.update(NONE)
    assert watched(server, {}, {"preempted": "TRUE"}, {}) == (["stop"], 1)


def test_the_question_holds_nothing_of_this_run(server):
    cloud_notices.ask("preempted", host(server))
    ((path, headers),) = server.requests
    assert path == "/computeMetadata/v1/instance/preempted"
    assert {name: value for name, value in headers.items() if name != "Host"} == {
        "Accept-Encoding": "identity", "Metadata-Flavor": "Google",
    }  # fmt: skip


def test_another_server_and_none_are_no_notice(server):
    assert cloud_notices.ask("preempted", host(server)) == "FALSE" and cloud_notices.ask("other", host(server)) is None
    server.values["preempted"] = "\xff" * 10_000
    assert len(cloud_notices.ask("preempted", host(server))) <= 100
    server.values, server.flavor = {"preempted": "TRUE"}, "other"
    assert cloud_notices.ask("preempted", host(server)) is None and watched(server, {}) == ([], 0)
    assert cloud_notices.ask("preempted", "127.0.0.1:1") is None


def test_only_a_machine_of_google_is_asked(server, tmp_path, monkeypatch):
    product = tmp_path / "product_name"
    assert not cloud_notices.is_google_machine(product)
    for name, expected in (
        ("Google Compute Engine\n", True),
        ("Google", True),
        ("KVM\n", False),
        ("Googleplex", False),
    ):
        product.write_text(name)
        assert cloud_notices.is_google_machine(product) == expected, name
    product.write_text("Google Compute Engine\n")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    assert not cloud_notices.is_google_machine(product)
    started = []
    monkeypatch.setattr(cloud_notices.threading, "Thread", lambda **options: started.append(options))
    monkeypatch.setattr(cloud_notices, "is_google_machine", lambda: False)
    with cloud_notices.watched(print, print):
        assert started == [] and server.requests == []


@pytest.mark.parametrize(
    ("values", "asked"), [(TERMINATE, interrupt.SAVE), ({"preempted": "TRUE"}, interrupt.STOP), ({}, interrupt.NOTHING)]
)
def test_a_flag_follows_the_notices(server, monkeypatch, capfd, values, asked):
    server.values.update(values)
    real, rounds = cloud_notices.watch, threading.Event()
    monkeypatch.setattr(cloud_notices, "is_google_machine", lambda: True)
    monkeypatch.setattr(cloud_notices, "SECONDS", 0.01)

    def watch(ended, on_save, on_stop):
        real(ended, on_save, on_stop, host(server))

    monkeypatch.setattr(cloud_notices, "watch", watch)
    with interrupt.Flag() as stop:
        while len(server.requests) < 6 and not stop.asked:
            rounds.wait(0.01)
        assert stop.asked == asked
    shown = capfd.readouterr().err
    assert ("stop this machine for maintenance: this step is saved, and the run goes on" in shown) == (asked == 1)
    assert ("stopping, because Google Cloud takes this machine back" in shown) == (asked == 2)
