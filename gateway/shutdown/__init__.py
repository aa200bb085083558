"""How a process ends: what says so, in which steps, and who is told.

::

    signals, the supervisor ─► stages ─► the daemon stops accepting, drains, cuts off
                                  └────► notice ─► what would not end by itself in time

``signals``  the stop signals, also while an application is loaded; whether a terminal sends them
``stages``   how far the end of a worker has come
``notice``   tells it to what would not end by itself
``exit``     the end of the process, despite threads that stay
``orphan``   ends it when the supervisor that started it is gone

They are imported one by one: some run in processes that have little else of the gateway.
"""
