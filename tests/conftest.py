"""What all tests share, whatever the machine."""

import os

from hypothesis import settings

# How long an example runs says something about the machine, not about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# With it Python writes a line and its end one after the other: two workers that print would mix theirs.
os.environ.pop("PYTHONUNBUFFERED", None)
