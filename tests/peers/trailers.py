"""A web server that sends the trailers of a request back, as trailers of its response."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer


class _Echo(StreamRequestHandler):
    """One request; a body is chunked."""

    def handle(self) -> None:
        head = self._lines()
        body, trailers = b"", [b"X-None: 1"]
        if b"transfer-encoding: chunked" in [line.lower() for line in head]:
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            trailers = self._lines()
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b"%x\r\n%b\r\n0\r\n%b\r\n"
            % (len(body) + 4, b"got " + body, b"".join(t + b"\r\n" for t in trailers))
        )

    def _lines(self) -> list[bytes]:
        lines = []
        while line := self.rfile.readline().rstrip(b"\r\n"):
            lines.append(line)
        return lines


@contextmanager
def trailer_server() -> Iterator[str]:
    """Its URL."""
    with ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join()
