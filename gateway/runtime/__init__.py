"""What this process has of Python and of the system, whatever it serves.

::

    lean            libraries without what they would load in vain
    collector       the collector of cycles
    memory          what is resident, and gives back to the system what a burst has left
    standard_files  standard input, output and error, which are open
    exhaustion      no descriptors or memory left: how it shows, and is told
    watchdog        tells of a blocked event loop
    forked          what children that an application forks are not to be: servers
"""
