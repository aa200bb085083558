"""How each kind of backend is made: a module for each, called after its key in the configuration.

Each has ``make(parts, name, config)``, see `gateway.build.backends.Kind`; *config* is of the class that
`gateway.config.backends.kinds` has for the key.
"""
