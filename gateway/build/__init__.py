"""Turns the configuration into what runs; nothing is started here.

::

    Config ─► gateway ─┬─► backends ─► kinds/       what applications are behind, a module for each kind
                       │  destination ─► upstream   and their servers, for those that have any
                       └─► routes                   conditions, action, and the filters around it
    Config, Gateway ─► entrances                    what stands behind each listening socket

``parts`` is what backends of all kinds are made with. What some of them have in common: ``application`` for
FastCGI, SCGI and uwsgi; ``python`` for applications as plain options, ``hosted`` for those in processes of
their own; ``processes`` that are started for a backend; ``server_tls`` to reach its servers; ``rewriting`` of
their answers.
"""

from gateway.build.gateway import Gateway, build

__all__ = ["Gateway", "build"]
