"""A download is the published file, whole and under its name, or it is not there; whatever the server does."""

import hashlib
import io
import socket
import tarfile
import zipfile

import file_server
import pytest

from dtr1_jax.models.weights import fetching
from dtr1_jax.models.weights.fetching import FetchError
from dtr1_jax.models.weights.published_files import MOST_OF_TEXT, File

DATA = bytes(range(256)) * 4000
FILE = File("w.bin", hashlib.sha256(DATA).hexdigest(), len(DATA))


@pytest.fixture
def server():
    with file_server.serving() as state:
        state.files["w.bin"] = DATA
        yield state


def get(server, folder, file=FILE):
    fetching.download(server.address + "w.bin", folder / "w.bin", file)


def names(folder):
    return sorted(x.name for x in folder.iterdir())


def test_a_file_is_fetched_and_known_again(server, tmp_path):
    assert not fetching.is_there(tmp_path / "w.bin", FILE)
    get(server, tmp_path)
    assert (tmp_path / "w.bin").read_bytes() == DATA and names(tmp_path) == ["w.bin"]
    assert fetching.is_there(tmp_path / "w.bin", FILE)


def test_another_hash_is_refused_and_removed(server, tmp_path):
    server.files["w.bin"] = DATA[:-1] + b"!"
    with pytest.raises(FetchError, match=f"SHA-256 {FILE.sha256}, got 1,024,000 bytes of [0-9a-f]{{64}}; nothing was"):
        get(server, tmp_path)
    assert names(tmp_path) == []


def test_a_file_of_the_user_is_not_replaced(server, tmp_path):
    (tmp_path / "w.bin").write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"expected SHA-256 .* \(4 bytes\); move the file away"):
        fetching.is_there(tmp_path / "w.bin", FILE)
    (tmp_path / "d").mkdir()
    with pytest.raises(FetchError, match="got a folder"):
        fetching.is_there(tmp_path / "d", FILE)


def test_a_cut_download_goes_on_where_it_was(server, tmp_path):
    server.cut = 400_000
    get(server, tmp_path)  # three connections
    assert [asked for _, asked in server.asked] == [None, "bytes=400000-", "bytes=800000-"]
    assert (tmp_path / "w.bin").read_bytes() == DATA


def test_a_download_that_fails_leaves_no_file_under_its_name(server, tmp_path):
    server.cut = 300_000
    with pytest.raises(FetchError, match="cut off after 900,000 of 1,024,000 bytes; the same command goes on there"):
        get(server, tmp_path)
    assert names(tmp_path) == ["w.bin.partial"]
    server.cut = None
    get(server, tmp_path)
    assert server.asked[-1][1] == "bytes=900000-" and (tmp_path / "w.bin").read_bytes() == DATA


@pytest.mark.parametrize("fault", ["ignores_ranges", "lies"])
def test_a_server_that_cannot_go_on_there(server, tmp_path, fault):
    (tmp_path / "w.bin.partial").write_bytes(DATA[:1000])
    setattr(server, fault, True)
    if fault == "lies":  # the part does not begin where it should: it is taken for a whole file, and is too short
        with pytest.raises(FetchError):
            get(server, tmp_path)
        assert "w.bin" not in names(tmp_path)
    else:
        get(server, tmp_path)
        assert (tmp_path / "w.bin").read_bytes() == DATA


def test_a_damaged_beginning_is_found_and_not_kept(server, tmp_path):
    (tmp_path / "w.bin.partial").write_bytes(b"?" * 1000)
    with pytest.raises(FetchError, match="nothing was kept"):
        get(server, tmp_path)
    assert names(tmp_path) == []
    get(server, tmp_path)
    assert names(tmp_path) == ["w.bin"]


def test_a_whole_partial_file_is_checked_without_the_server(server, tmp_path):
    (tmp_path / "w.bin.partial").write_bytes(DATA)
    get(server, tmp_path)
    assert server.asked == [] and names(tmp_path) == ["w.bin"]


def test_another_size_is_refused_at_once(server, tmp_path):
    server.files["w.bin"] = DATA[:100]
    with pytest.raises(FetchError, match="expected 1,024,000 bytes, got 100; nothing was kept"):
        get(server, tmp_path)
    (tmp_path / "w.bin.partial").write_bytes(DATA[:200])  # of a file that the server no longer has
    with pytest.raises(FetchError, match="HTTP 416"):
        get(server, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("file", [FILE, File("w.bin")])
def test_endless_answers_are_cut_off(server, tmp_path, file):
    server.endless = True
    with pytest.raises(FetchError, match=f"expected at most {file.size or MOST_OF_TEXT:,} bytes, got more"):
        get(server, tmp_path, file)
    assert names(tmp_path) == []


def test_a_slow_server_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "SILENCE", 0.05)
    monkeypatch.setattr(fetching, "SLOWEST", 1e12)
    clock = iter(range(1000))
    monkeypatch.setattr(fetching.time, "monotonic", lambda: next(clock))
    with pytest.raises(FetchError, match="too slow"):
        get(server, tmp_path)


def test_a_file_that_is_not_there(server, tmp_path):
    with pytest.raises(FetchError, match=r"w\.txt: HTTP 404"):
        fetching.download(server.address + "w.txt", tmp_path / "w.bin", FILE)
    assert len(server.asked) == 1


def test_no_server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/w.bin"
    with pytest.raises(FetchError, match=r"http://127.0.0.1:\d+/w.bin: .*refused"):
        fetching.download(url, tmp_path / "w.bin", FILE)
    assert names(tmp_path) == []


def test_text_without_a_hash_begins_anew(server, tmp_path):
    (tmp_path / "w.bin.partial").write_bytes(b"old")
    server.files["w.bin"] = b"{}"
    get(server, tmp_path, File("w.bin"))
    assert (tmp_path / "w.bin").read_bytes() == b"{}" and server.asked == [("/w.bin", None)]


def tgz(path, *entries):
    """Writes an archive of (name, bytes or the target of a link)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
    return path


def test_one_file_of_an_archive(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    archive = tgz(tmp_path / "a.tgz", ("../../evil", b"x"), ("/etc/evil", b"x"), ("package/w.bin", DATA))
    fetching.extract(archive, "package/w.bin", out / "w.bin", FILE)
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("../evil", b"x")
        wheel.writestr("p/w.bin", DATA)
    fetching.extract(tmp_path / "a.whl", "p/w.bin", out / "v.bin", FILE)
    assert names(out) == ["v.bin", "w.bin"] and names(tmp_path) == ["a.tgz", "a.whl", "out"]
    assert (out / "w.bin").read_bytes() == (out / "v.bin").read_bytes() == DATA


def test_archives_that_are_refused(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    cases = {
        "cannot be read": tgz(tmp_path / "none.tgz", ("other", DATA)),
        "at most 1,024,000 bytes, got more": tgz(tmp_path / "bomb.tgz", ("w.bin", bytes(9_000_000))),
        "nothing was kept": tgz(tmp_path / "wrong.tgz", ("w.bin", b"x")),
        "w.bin": tgz(tmp_path / "link.tgz", ("w.bin", str(secret))),
    }
    (tmp_path / "damaged.tgz").write_bytes(b"\x1f\x8b nonsense")
    (tmp_path / "damaged.whl").write_bytes(b"PK nonsense")
    for message, archive in [*cases.items(), *(("cannot be read", tmp_path / f"damaged.{x}") for x in ("tgz", "whl"))]:
        with pytest.raises(FetchError, match=message):
            fetching.extract(archive, "w.bin", out / "w.bin", FILE)
        assert names(out) == []
