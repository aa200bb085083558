"""``python -m gateway`` is the command ``gateway``."""

from gateway.runtime.collector import loading

with loading():
    from gateway.cli.commands import main

if __name__ == "__main__":
    main()
