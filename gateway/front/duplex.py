"""What the tunnels of HTTP/1.1 and HTTP/2 have in common: whom to tell when an end comes."""

from collections.abc import Callable

from gateway.front.service import Service


class FrontDuplex:
    """One half of a `request.Duplex`; the other half is how bytes pass."""

    __slots__ = ("_service", "on_disconnect", "on_drain")

    def __init__(self, service: Service) -> None:
        self._service = service
        self.on_disconnect: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None

    @property
    def draining(self) -> bool:
        return self._service.closing

    def disconnect(self) -> None:
        """The client has ended its side, or broken the connection or stream (called from the pump)."""
        callback, self.on_disconnect = self.on_disconnect, None
        if callback is not None:
            callback()

    def drain(self) -> None:
        """The daemon is stopping."""
        callback, self.on_drain = self.on_drain, None
        if callback is not None:
            callback()
