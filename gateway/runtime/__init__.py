"""What this process has of Python and of the system, whatever it serves.

::

    init            process 1 of a container, whose child the daemon is
    lean            libraries without what they would load in vain
    collector       the collector of cycles
    growth          looks for cycles more often in a process that grows
    memory          what is resident, and gives back to the system what a burst has left
    standard_files  standard input, output and error, which are open
    exhaustion      no descriptors or memory left: how it shows, and is told
    watchdog        tells of a blocked event loop
    log_signals     the signals that are about log files
    upkeep          what of these a process does that serves
    service_manager is told how far the daemon is (systemd)
    forked          what children that an application forks are not to be: servers
"""
