"""nginx as the tests start it: in the foreground, with all of its files in one directory."""

import os
import socket
from collections.abc import Iterable
from pathlib import Path


def nginx_command(program: str, directory: Path, http: str) -> list[str]:
    """What starts nginx with *http* in the block of that name. Its file is written into *directory*."""
    file = directory / "nginx.conf"
    # Started by root, it would read what it serves as nobody, who may not.
    file.write_text(f"""
daemon off; user root; worker_processes 1; pid {directory}/pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
    proxy_temp_path {directory}; fastcgi_temp_path {directory};
    {http}
}}
""")
    return [program, "-p", str(directory), "-c", str(file), "-e", "stderr"]


def inheriting(listeners: Iterable[socket.socket]) -> dict[str, str]:
    """An environment in which it takes over *listeners* instead of binding: its way of upgrading itself."""
    return {**os.environ, "NGINX": "".join(f"{listener.fileno()};" for listener in listeners)}
