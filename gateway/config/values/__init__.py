"""The scalar types of the configuration language.

Each type is an ``Annotated`` alias that turns the YAML value into what the program uses (float seconds,
int bytes, an address object) and describes itself to the JSON Schema. The parsers are plain functions
that raise ValueError with a message in the words of the configuration: ``expected …, got …``.

::

    parsed      values that a function makes of what is written
    numbers     numbers and booleans, which may come from variables
    quantities  durations, sizes, percentages
    texts       names, secrets, regular expressions, templates
    addresses   where to listen and to connect to; networks of clients
    targets     where clients may be connected to
    files       paths, and error pages
    tls         certificates, keys, ciphers
    programs    commands and environments of what the gateway starts
    users       whom it is run as
    requests    paths, hosts, methods, header fields, cookies
    shapes      shorter ways to write a value

Patterns and templates stay text: they are checked here and compiled where they are used.
"""
