"""Turns the configuration into what runs; nothing is started here.

::

    Config ─► gateway ─┬─► backends ─► upstream     what applications are behind, and their servers
                       └─► routes                   conditions, action, and the filters around it
    Config, Gateway ─► entrances                    what stands behind each listening socket
"""

from gateway.build.gateway import Gateway, build

__all__ = ["Gateway", "build"]
