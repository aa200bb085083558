"""YAML text to plain data, and back from a place in the data to its line.

What the language adds to YAML happens here: ``${NAME}`` and ``${NAME:-default}`` in values take
environment variables, ``$$`` is a dollar sign. Variables are put in after parsing, so that what is in
them stays text. All keys are text. What YAML has beyond plain data (tags, dates, numbers to base 60) is
refused or stays text.

Anchors, aliases and ``<<`` work. The result is bounded in depth and size whatever they do.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.events import CollectionEndEvent, CollectionStartEvent, Event
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config.base import Place
from gateway.config.values.numbers import FromEnvironment
from gateway.config.wording import show

DEEPEST: Final = 50
"""Levels of nesting; the language itself has about ten. libyaml's composer crashes at some ten thousand."""

MOST_VALUES: Final = 200_000
"""Values in one file, aliases counted each time: a few lines of aliases can stand for billions."""

_TAG: Final = "tag:yaml.org,2002:"
_VARIABLE: Final = re.compile(r"\$\$|\$\{([^}]*)(\}?)")
_REFERENCE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.ASCII | re.DOTALL)


class SourceError(Exception):
    """The text cannot be read as YAML at all."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class Source:
    """The data of one YAML text, with the lines of its parts and the mistakes found so far."""

    def __init__(self, text: str, environment: Mapping[str, str]) -> None:
        self.data: Any = None
        self.lines: dict[Place, int] = {}
        self.mistakes: list[tuple[Place, int, str]] = []
        self.broken: set[Place] = set()
        """Where a value could not be read; None stands in the data for it."""
        self._environment = environment
        self._open: list[Node] = []
        self._values = 0
        root = _compose(text)
        if root is not None:
            self.data = self._plain(root, (), root.start_mark.line + 1)

    def line(self, place: Place) -> int:
        """The line of *place*, or of what contains it if it is missing."""
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, 1)

    # ---- nodes to data

    def _plain(self, node: Node, place: Place, line: int) -> Any:
        self.lines[place] = line
        self._count(line)
        if isinstance(node, ScalarNode):
            return self._scalar(node, place, line)
        if node in self._open:
            return self._broken(place, line, "an alias stands inside of what it stands for")
        self._open.append(node)
        try:
            if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
                return [
                    self._plain(item, (*place, position), item.start_mark.line + 1)
                    for position, item in enumerate(node.value)
                ]
            if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
                return self._mapping(node, place)
        finally:
            self._open.pop()
        return self._broken(place, line, f"the tag {show(node.tag)} has no meaning here")

    def _count(self, line: int) -> None:
        self._values += 1
        if self._values > MOST_VALUES:
            raise SourceError(f"more than {MOST_VALUES} values", line)
        if len(self._open) > DEEPEST:
            raise _too_deep(line)

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        data: dict[str, Any] = {}
        seen: dict[str, int] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._mistake(place, line, "expected text as a key")
            elif key_node.tag == f"{_TAG}merge":
                merged.append(value_node)
            elif key_node.value in seen:
                key = key_node.value
                self._mistake((*place, key), line, f"the key is there twice, first in line {seen[key]}")
            else:
                seen[key_node.value] = line
                data[key_node.value] = self._plain(value_node, (*place, key_node.value), line)
        for source in merged:
            self._merge(source, place, data)
        return data

    def _merge(self, source: Node, place: Place, data: dict[str, Any]) -> None:
        """``<<``: take the keys of other mappings that are not there; earlier ones win."""
        for node in source.value if isinstance(source, SequenceNode) else [source]:
            line = node.start_mark.line + 1
            self._count(line)
            if not isinstance(node, MappingNode):
                self._mistake(place, line, "<< takes a mapping or a list of mappings")
            elif node in self._open:
                self._mistake(place, line, "an alias stands inside of what it stands for")
            else:
                known = {kept: self.lines[(*place, kept)] for kept in data}
                self._open.append(node)
                for key, value in self._mapping(node, place).items():
                    data.setdefault(key, value)
                self._open.pop()
                self.lines.update({(*place, key): number for key, number in known.items()})

    def _scalar(self, node: ScalarNode, place: Place, line: int) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if (kind == "int" and ":" in node.value) or kind in {"str", "timestamp", "value"}:
            return self._interpolated(node.value, place, line)
        try:
            match kind:
                case "null":
                    return None
                case "bool":
                    return _CONSTRUCTOR.construct_yaml_bool(node)
                case "int":
                    return _CONSTRUCTOR.construct_yaml_int(node)
                case "float":
                    return _CONSTRUCTOR.construct_yaml_float(node)
        except (ValueError, KeyError, IndexError, ConstructorError):
            return self._broken(place, line, f"{show(node.value)} is not of the YAML type {kind}")
        return self._broken(place, line, f"the tag {show(node.tag)} has no meaning here")

    # ---- variables

    def _interpolated(self, text: str, place: Place, line: int) -> Any:
        if "$" not in text:
            return text
        replaced = False
        unknown: list[str] = []

        def value(found: re.Match[str]) -> str:
            nonlocal replaced
            if found[1] is None:
                return "$"
            replaced = True
            reference = _REFERENCE.fullmatch(found[1])
            if not found[2] or reference is None:
                what = f"expected ${{NAME}} or ${{NAME:-default}}, got {show(found[0])}"
                unknown.append(f"{what} ($$ is a dollar sign)")
                return ""
            name, default = reference.groups()
            # As in a shell: the default stands for an empty variable too.
            given = self._environment.get(name)
            if default is not None:
                return given or default
            if given is None:
                unknown.append(f"the environment variable {name} is not set, and there is no default")
            return given or ""

        result = _VARIABLE.sub(value, text)
        for message in unknown:
            self._broken(place, line, message)
        return FromEnvironment(result) if replaced else result

    def _mistake(self, place: Place, line: int, message: str) -> None:
        self.mistakes.append((place, line, message))

    def _broken(self, place: Place, line: int, message: str) -> None:
        self._mistake(place, line, message)
        self.broken.add(place)


_CONSTRUCTOR: Final = SafeConstructor()

OTHERS: Final = "; docs/migrating.md has the words of other programs' files for one of the gateway"
"""Where a file is no YAML at all, or nothing but text: an nginx.conf, a Caddyfile, an ini file."""


def _compose(text: str) -> Node | None:
    if not _is_unicode(text):
        raise SourceError("not Unicode text: it has lone surrogates", 1)
    try:
        # The composer is recursive C code: look at the depth first.
        _check_depth(yaml.parse(text, yaml.CSafeLoader))
        return yaml.compose(text, yaml.CSafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SourceError("not a text file: it has control characters", line) from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text) from None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> SourceError:
    message = ", ".join(part for part in (error.context, error.problem) if part)
    begun = _line(error.context_mark)
    line = _line(error.problem_mark) or begun or 1
    if error.problem == "exceeded maximum nesting depth":
        # libyaml >= 0.2.6 reads ahead and has a limit of its own, far beyond ours.
        return _too_deep(line)
    if begun not in {None, line}:
        # What was opened and never closed shows only much later.
        message = f"{message} (begun in line {begun})"
    hint = _hint(message, _character(text, error.problem_mark))
    return SourceError(f"not YAML: {message}{hint}", line)


def _hint(message: str, character: str) -> str:
    """What the author may have meant, where the words of the parser do not say it."""
    if "document start" in message:
        return OTHERS
    if "alias" in message:
        return "; what begins with * needs quotes"
    if "cannot start any token" in message:
        if character == "\t":
            return "; lines are indented by spaces, not by tabs"
        return f"; what begins with {show(character)} needs quotes"
    if "parsing a flow node" in message and character:
        return "; text that begins with [ or { needs quotes"
    if "parsing a block" in message:
        return "; is the line indented as those before it are?"
    if "mapping values" in message:
        return "; is the line indented as those before it are? Text with a colon and a space needs quotes"
    return ""


def _character(text: str, mark: Any) -> str:
    return "" if mark is None else text[mark.index : mark.index + 1]


def _too_deep(line: int) -> SourceError:
    return SourceError(f"nested deeper than {DEEPEST} levels", line)


def _line(mark: Any) -> int | None:
    return None if mark is None else int(mark.line) + 1


def _check_depth(events: Iterable[Event]) -> None:
    depth = 0
    for event in events:
        if isinstance(event, CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise _too_deep(_line(event.start_mark) or 1)
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
