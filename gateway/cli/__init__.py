"""What people type: the command ``gateway`` and its options.

::

    commands    the commands: serve, check, status, reload, stop, schema
    options     what the options of gateway serve stand for in a configuration
    sections    how its help shows them
"""
