"""The configuration of who the programs are that the gateway starts, and what they may use."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Self

from pydantic import ValidationInfo, field_validator, model_validator

from gateway.config.base import Model, Place
from gateway.config.values.numbers import Count
from gateway.config.values.quantities import Limit, Size, Timeout
from gateway.config.values.users import GroupNumber, UserAccount
from gateway.programs.confinement import Confinement, ResourceLimits, User, may_change_user, tool


class ProcessLimits(Model):
    """What each process of a program may use (setrlimit(2)); by default what the gateway may."""

    cpu: Timeout | None = None
    """CPU time, in whole seconds; then it is ended by SIGXCPU, and 5 seconds later by SIGKILL."""
    memory: Limit | None = None
    """Bytes of address space (Apache: RLimitMEM)."""
    processes: Count | None = None
    """Processes and threads of its user, all of them together (Apache: RLimitNPROC); root's have no limit."""
    open_files: Count | None = None
    """Open files and connections."""
    file_size: Size | None = None
    """Bytes of a file that it writes."""
    core: Size | None = None
    """Bytes of a core dump; 0 for none."""

    @field_validator("*")
    @classmethod
    def _may_be_given(cls, value: Any, info: ValidationInfo) -> Any:
        for _, ours in ResourceLimits(**{str(info.field_name): value}).refused():
            raise ValueError(
                f"expected at most {ours}, which the gateway has itself: the system refuses more "
                "(CAP_SYS_RESOURCE, fs.nr_open)"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        tool("prlimit")
        return self

    def for_children(self) -> ResourceLimits:
        """As `gateway.programs.confinement` wants them."""
        return ResourceLimits(**self.model_dump())


class Confined(Model):
    """What programs that the gateway starts have in common: who they are, and what they may use."""

    user: UserAccount | None = None
    """The user that they run as, by name or number, with its groups; only root can do that."""
    group: GroupNumber | None = None
    """The group that they run as, by name or number, in place of the user's own."""
    limits: ProcessLimits | None = None
    """What each process may use."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        limits = data.get("limits")
        counted = isinstance(limits, dict) and limits.get("processes") is not None
        if counted and data.get("user") is None and may_change_user():
            yield ("limits", "processes"), "root's are not limited (setrlimit(2)): expected user"

    @property
    def account(self) -> User | None:
        """The user and the group together."""
        if self.group is None:
            return self.user
        return User(None, self.group) if self.user is None else replace(self.user, gid=self.group)

    @property
    def confinement(self) -> Confinement | None:
        """For `gateway.programs.process.spawn`."""
        user = self.account
        limits = None if self.limits is None else self.limits.for_children()
        return None if user is None and limits is None else Confinement(user, limits)
