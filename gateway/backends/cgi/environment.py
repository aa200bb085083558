"""The environment of a program: the CGI variables, PATH, and the configured ones; of ours what is named."""

import os
from collections.abc import Iterable, Mapping

from gateway.backends.cgi.program import Script
from gateway.environ import build_environ
from gateway.programs.executable import PROGRAM_PATH
from gateway.request import Request
from gateway.template import Template


class Environment:
    """Makes the environments of the programs below *document_root*.

    *pass_env* are names of variables of this process, which are passed on as they are now. *variables* win
    over all others. Without *pass_authorization* programs do not see the Authorization field (CGI-23).
    """

    def __init__(
        self,
        document_root: bytes,
        variables: Mapping[str, Template],
        *,
        pass_env: Iterable[str],
        pass_authorization: bool,
    ) -> None:
        self._document_root = document_root.decode("latin-1")
        self._pass_authorization = pass_authorization
        self._constants = {b"PATH": PROGRAM_PATH.encode()}
        for name in map(os.fsencode, pass_env):
            if name in os.environb:
                self._constants[name] = os.environb[name]
        self._variables: dict[bytes, Template] = {}
        for key, template in variables.items():
            if template.constant is not None:
                self._constants[_bytes(key)] = _bytes(template.constant)
            else:
                self._variables[_bytes(key)] = template

    def of(self, script: Script, request: Request, length: int | None) -> dict[bytes, bytes]:
        """For *script* that answers *request* with *length* bytes of body, None if that is unknown."""
        environ = build_environ(
            request,
            script_name=script.script_name,
            path_info=script.path_info,
            content_length=length,
            pass_authorization=self._pass_authorization,
        )
        environ["SCRIPT_FILENAME"] = script.filename.decode("latin-1")
        environ["DOCUMENT_ROOT"] = self._document_root
        if script.interpreted:
            # php-cgi refuses to run what does not come through a web server's redirect (cgi.force_redirect).
            environ["REDIRECT_STATUS"] = "200"
        if path_info := environ["PATH_INFO"]:
            environ["PATH_TRANSLATED"] = self._document_root + path_info  # RFC 3875 4.1.6
        # RFC 3875 7.2: no NUL in values. No HTTP field has one, and a path with one was refused.
        encoded = {name.encode("latin-1"): value.encode("latin-1") for name, value in environ.items()}
        encoded.update(self._constants)
        for name, template in self._variables.items():
            encoded[name] = _bytes(template.render(request))
        return encoded


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
