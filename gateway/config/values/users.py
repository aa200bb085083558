"""Whom programs are run as."""

import grp
import os
import pwd
from typing import Annotated, Any, Final, TypeAlias

from gateway.config.values.parsed import Parsed
from gateway.config.wording import expected, show
from gateway.programs.confinement import User, may_change_user, tool


def parse_user(value: Any) -> User:
    """A user by name or number, with the groups that the database gives it."""
    _only_root(value)
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            entry = pwd.getpwuid(value)
        elif isinstance(value, str) and value:
            entry = pwd.getpwuid(int(value)) if value.isdecimal() else pwd.getpwnam(value)
        else:
            raise expected("the name or number of a user", value)
    except (KeyError, OverflowError):
        raise ValueError(f"there is no user {show(value)} on this machine") from None
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return User(entry.pw_uid, entry.pw_gid, groups, entry.pw_name, entry.pw_dir)


def parse_group(value: Any) -> int:
    """The number of a group, given by name or number."""
    _only_root(value)
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return grp.getgrgid(value).gr_gid
        if isinstance(value, str) and value:
            return grp.getgrgid(int(value)).gr_gid if value.isdecimal() else grp.getgrnam(value).gr_gid
    except (KeyError, OverflowError):
        raise ValueError(f"there is no group {show(value)} on this machine") from None
    raise expected("the name or number of a group", value)


def _only_root(value: Any) -> None:
    if not may_change_user():
        raise ValueError(f"only root can run programs as {show(value)}: start the gateway as root")
    tool("setpriv")


_ACCOUNT_SCHEMA: Final = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}]}
UserAccount: TypeAlias = Annotated[User, Parsed(parse_user, _ACCOUNT_SCHEMA)]
GroupNumber: TypeAlias = Annotated[int, Parsed(parse_group, _ACCOUNT_SCHEMA)]
