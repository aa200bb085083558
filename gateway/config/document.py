"""A configuration as it was written, to be read in another process: its text, or the data of options."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config.loading import from_mapping, load_text
from gateway.config.whole import Config


@dataclass(frozen=True, slots=True)
class Document:
    """Either *text* or *data*; nothing in it that JSON does not have."""

    name: str
    """Of the file, for messages."""
    directory: str
    """Where relative paths start."""
    text: str | None = None
    data: Mapping[str, Any] | None = None

    def load(self) -> Config:
        """Raises ConfigError with all mistakes."""
        if self.text is not None:
            return load_text(self.text, self.name, self.directory)
        assert self.data is not None
        return from_mapping(self.data, self.name, self.directory)
