"""Turns the configuration into what runs; nothing is started here.

::

    Config ─► gateway ─┬─► backends ─► upstream     what applications are behind, and their servers
                       └─► routes                   conditions, action, and the filters around it
    Config, Gateway ─► entrances                    what stands behind each listening socket

Parts of a backend: ``processes`` that are started for it, ``python`` applications as plain options, ``slots``
for what runs at the same time, ``rewriting`` of answers.
"""

from gateway.build.gateway import Gateway, build

__all__ = ["Gateway", "build"]
