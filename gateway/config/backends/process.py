"""The configuration of applications in processes of their own, which the gateway hosts there."""

from pydantic import Field

from gateway.config.balancing import Retry
from gateway.config.base import written
from gateway.config.spawn import Supervised
from gateway.config.values.quantities import Duration, Timeout


class OwnProcess(Supervised):
    """Processes of its own for an application: what happens to them happens to no other."""

    startup_time: Timeout | None = None
    """For the application to be loaded and started; then its process is ended and counts as failed. By
    default as long as it takes: the log tells of it."""
    timeout: Timeout | None = None
    """For the application to begin its answer; then the request is answered 504. By default as long as it
    likes."""
    retry: Retry = Field(default_factory=Retry)
    """What is tried after a failure: with tries: 2, requests of a process that died go to another."""
    hold: Duration = written(0)
    """How long requests wait while no process can be reached, instead of failing at once."""
