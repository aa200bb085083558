"""Programs: what the gateway runs as processes of the system.

``process``      the life of one: what it gets, how it ends, and that nothing of it stays
``launch``       its start, for less than `subprocess.Popen` takes
``confinement``  its user and its limits
``executable``   why it cannot be run
``restarts``     when one that has died is started again
"""
