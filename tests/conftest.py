"""What all tests share: how long an example runs says something about the machine, not about the code."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
