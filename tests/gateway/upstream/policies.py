"""What servers are given by default (docs/configuration.md), and where a test is about something else."""

from math import inf
from typing import Final

from gateway.upstream.health import HealthPolicy
from gateway.upstream.multiplex import SharingPolicy
from gateway.upstream.pool import PoolPolicy

HEALTH: Final = HealthPolicy(failures=3, eject_time=10.0, max_ejected=0.5, slow=inf, slow_start=0.0)
POOL: Final = PoolPolicy(idle=32, idle_time=60.0, requests=1000, age=3600.0)
SHARING: Final = SharingPolicy(requests=16, buffer=256 * 1024, stall=5.0)
