"""A web server in a process of its own, to be killed, frozen and started again: ``PORT NAME``.

It answers every request with its name, and says ``ready PORT`` on standard output.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024  # a response is one write: whoever is killed has said all of it, or nothing

    def do_GET(self) -> None:
        name = sys.argv[2].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


if __name__ == "__main__":
    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    print("ready", server.server_port, flush=True)
    server.serve_forever()
