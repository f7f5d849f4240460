"""A bucket in memory, reached as a real one is: by fsspec (gs:// and s3://), and over HTTP by tensorstore.

It has objects and no folders, takes no appending, and an object appears when its writing ends. `objects` maps
"bucket/name" to (bytes, generation), and `log` lists what was done to them.
"""

from __future__ import annotations

import contextlib
import http.server
import io
import itertools
import json
import pathlib
import re
import threading
import urllib.parse
from collections.abc import Iterator

import fsspec
import pytest
from etils.epath import gpath
from fsspec.registry import _registry

objects: dict[str, tuple[bytes, int]] = {}
log: list[tuple[str, str]] = []
_numbers = itertools.count(1)
_lock = threading.RLock()


def put(name: str, data: bytes) -> int:
    """Makes or replaces an object; returns its generation."""
    with _lock:
        objects[name] = (bytes(data), next(_numbers))
        log.append(("put", name))
        return objects[name][1]


def put_folder(folder: pathlib.Path, name: str) -> None:
    """Makes an object of each file in a folder of this machine."""
    for file in folder.rglob("*"):
        if file.is_file():
            put(f"{name}/{file.relative_to(folder).as_posix()}", file.read_bytes())


class Bucket(fsspec.AbstractFileSystem):
    """The objects as an fsspec file system."""

    protocol = ("gs", "gcs", "s3")

    @classmethod
    def _strip_protocol(cls, path):
        if isinstance(path, list):
            return [cls._strip_protocol(p) for p in path]
        return str(path).partition("://")[2].rstrip("/") if "://" in str(path) else str(path).strip("/")

    def ls(self, path, detail=True, **kwargs):
        path = self._strip_protocol(path)
        start, rows = f"{path}/" if path else "", {}
        with _lock:
            for name, (data, generation) in objects.items():
                if name == path or name.startswith(start):
                    rest = name[len(start) :] if name != path else ""
                    first, deeper, _ = rest.partition("/")
                    key = path if name == path else start + first
                    row = {"name": key, "size": 0, "type": "directory"}
                    if not deeper:
                        row = {"name": key, "size": len(data), "type": "file", "generation": str(generation)}
                    rows[key] = row
        if not rows:
            raise FileNotFoundError(path)
        return list(rows.values()) if detail else list(rows)

    def _open(self, path, mode="rb", **kwargs):
        if mode == "rb":
            with _lock:
                if path not in objects:
                    raise FileNotFoundError(path)
                return io.BytesIO(objects[path][0])
        if mode not in ("wb", "xb"):
            raise NotImplementedError(f"an object cannot be opened by {mode!r}")
        return _Writing(path, new=mode == "xb")

    def mkdir(self, path, create_parents=True, **kwargs):
        log.append(("mkdir", path))

    def makedirs(self, path, exist_ok=False):
        log.append(("mkdir", path))

    def rm(self, path, recursive=False, maxdepth=None):
        with _lock:
            for place in self._strip_protocol(path) if isinstance(path, list) else [self._strip_protocol(path)]:
                names = [n for n in objects if n == place or (recursive and n.startswith(f"{place}/"))]
                if not names:
                    raise FileNotFoundError(place)
                for name in names:
                    del objects[name]
                    log.append(("rm", name))

    def rmdir(self, path):
        raise FileNotFoundError(path)

    def cp_file(self, path1, path2, **kwargs):
        put(self._strip_protocol(path2), self.cat_file(path1))


class _Writing(io.BytesIO):
    def __init__(self, name: str, new: bool):
        super().__init__()
        self._name, self._new = name, new

    def close(self) -> None:
        with _lock:
            if not self.closed:
                if self._new and self._name in objects:
                    super().close()
                    raise FileExistsError(self._name)
                put(self._name, self.getvalue())
        super().close()


class _Server(http.server.BaseHTTPRequestHandler):
    """The part of Google's JSON API that tensorstore and gcsfs use."""

    protocol_version = "HTTP/1.1"

    def _split(self) -> tuple[str, str, dict[str, str]]:
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        bucket, _, rest = parts.path.partition("/b/")[2].partition("/o")
        return bucket, urllib.parse.unquote(rest.removeprefix("/")) or query.get("name", ""), query

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fits(self, name: str, query: dict[str, str]) -> bool:
        wanted, found = query.get("ifGenerationMatch"), objects.get(name, (b"", 0))[1]
        return wanted is None or int(wanted) == found

    def do_GET(self) -> None:
        """An object, or a listing."""
        bucket, name, query = self._split()
        with _lock:
            if not name:
                return self._list(bucket, query.get("prefix", ""), query.get("delimiter", ""))
            found = objects.get(f"{bucket}/{name}")
            if found is None:
                return self._answer(404)
            if "alt" not in query:
                return self._json(self._about(f"{bucket}/{name}"))
        data, status, more = found[0], 200, {}
        if "Range" in self.headers:
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            low, high = int(first), min(int(last) + 1 if last else len(data), len(data))
            more = {"Content_Range": f"bytes {low}-{high - 1}/{len(data)}"}
            data, status = data[low:high], 206
        return self._answer(status, data, x_goog_generation=str(found[1]), **more)

    def _json(self, value: dict) -> None:
        self._answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def _about(self, name: str) -> dict[str, str]:
        (bucket, _, rest), (data, generation) = name.partition("/"), objects[name]
        media = f"http://{self.headers['Host']}/b/{bucket}/o/{urllib.parse.quote(rest, safe='')}?alt=media"
        return {
            "kind": "storage#object", "bucket": bucket, "name": rest, "size": str(len(data)), "mediaLink": media,
            "generation": str(generation),
        }  # fmt: skip

    def _list(self, bucket: str, prefix: str, delimiter: str) -> None:
        names = sorted(n for n in objects if n.startswith(f"{bucket}/{prefix}"))
        ends = {n: n.find(delimiter, len(bucket) + 1 + len(prefix)) if delimiter else -1 for n in names}
        self._json({
            "kind": "storage#objects", "items": [self._about(n) for n in names if ends[n] < 0],
            "prefixes": sorted({n[len(bucket) + 1 : ends[n] + 1] for n in names if ends[n] >= 0}),
        })  # fmt: skip

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_POST(self) -> None:
        """A new object, by its content alone or with its description before it, or a copy of another one."""
        bucket, name, query = self._split()
        data = self._body()
        if "/rewriteTo/b/" in name:
            name, _, target = name.partition("/rewriteTo/b/")
            bucket, data, name = target.partition("/o/")[0], objects[f"{bucket}/{name}"][0], target.partition("/o/")[2]
        elif query.get("uploadType") == "multipart":
            _, about, content, _ = re.split(rb"\r?\n?--=+[0-9]+==(?:--)?", data)
            name = json.loads(about.partition(b"\n\n")[2])["name"]
            data = content.partition(b"\n\n")[2]
        with _lock:
            if not self._fits(f"{bucket}/{name}", query):
                return self._answer(412)
            put(f"{bucket}/{name}", data)
            self._json(self._about(f"{bucket}/{name}") | {"done": True, "resource": self._about(f"{bucket}/{name}")})

    def do_DELETE(self) -> None:
        """Removes an object."""
        bucket, name, query = self._split()
        with _lock:
            if not self._fits(f"{bucket}/{name}", query):
                return self._answer(412)
            gone = objects.pop(f"{bucket}/{name}", None)
        return self._answer(204 if gone else 404)

    def log_message(self, *args) -> None:
        """Says nothing."""


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Context manager that serves the objects over HTTP; yields the address."""
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}"
    finally:
        serving.shutdown()
        serving.server_close()


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Context manager in which gs:// and s3:// are the bucket in memory, which is empty at first."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("gs", "gcs", "s3"):
            patch.setitem(_registry, name, Bucket)
        patch.setattr(gpath, "_is_tf_installed", lambda: False)
        gpath.backend_lib.fsspec_backend._get_filesystem.cache_clear()
        objects.clear()
        log.clear()
        yield
    gpath.backend_lib.fsspec_backend._get_filesystem.cache_clear()
    objects.clear()


@contextlib.contextmanager
def with_checkpoints() -> Iterator[None]:
    """`installed`, with orbax and tensorstore on the same objects."""
    from orbax.checkpoint._src.path import gcs_utils

    with installed(), server() as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
        patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
        # It would ask google.cloud.storage, which comes with gcsfs, about the kind of the bucket.
        patch.setattr(gcs_utils, "is_hierarchical_namespace_enabled", lambda path: False)
        yield
