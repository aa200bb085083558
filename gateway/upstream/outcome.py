"""What may become of an exchange beside an answer and a failure: the caller may ask again."""

from dataclasses import dataclass

from gateway.errors import BackendError


class StaleConnectionError(Exception):
    """A reused connection was closed by the application before it answered anything."""


class UnreadError(StaleConnectionError):
    """The application's process has ended, and has read nothing of the request."""


class CannotShareError(StaleConnectionError):
    """The application refused a request because of others on the connection, before or beside it (FCGI-14:
    CANT_MPX_CONN). On a connection of its own it may be taken.
    """


class CrowdedError(CannotShareError):
    """The same, because there are too many others now (FCGI-14: OVERLOADED). *failure* is what it is if there
    can be no other connection.
    """

    def __init__(self, failure: BackendError) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class UnwantedStatus(Exception):
    """The answer is one that another server is to be asked for instead."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Statuses of answers that are not passed on, as long as the clock has not reached *until*."""

    statuses: frozenset[int]
    until: float
