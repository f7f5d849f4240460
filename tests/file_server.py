"""A web server on this machine that gives files, honestly or not."""

import contextlib
import http.server
import threading


class Server:
    """Files by path, and what is wrong with the answers.

    Attributes:
      files: path -> bytes.
      asked: (path, Range header or None) of each request.
      cut: bytes after which each connection ends.
      ignores_ranges: answers requests for a part with the whole file.
      lies: says that a part begins where it does not.
      endless: goes on sending.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cut: int | None = None
        self.ignores_ranges = self.lies = self.endless = False
        self.address = ""


@contextlib.contextmanager
def serving():
    """Yields a Server; its `address` ends in a slash."""
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            state.asked.append((self.path, asked))
            data = state.files.get(self.path.lstrip("/"))
            if data is None:
                return self.send_error(404)
            first = int(asked.split("=")[1].rstrip("-")) if asked and not state.ignores_ranges else 0
            if first > len(data):
                return self.send_error(416)
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first + state.lies}-{len(data) - 1}/{len(data)}")
            if not state.endless:
                self.send_header("Content-Length", str(len(data) - first))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(data[first:] if state.cut is None else data[first : first + state.cut])
                for _ in range(2000 if state.endless else 0):
                    self.wfile.write(b"x" * 65536)

        def log_message(self, *_):
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
