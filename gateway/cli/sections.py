"""Options of a command in sections, each with a heading in its help."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def option(section: str, *names: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """As `click.option`, below the heading *section*."""
    return click.option(*names, cls=SectionedOption, section=section, **attributes)


class SectionedOption(click.Option):
    """An option below the heading *section*."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """Writes a section for each heading, in the order in which they are met; then the other options.

    *foreign* are options by the names that other programs have for them.
    """

    def __init__(self, *args: Any, foreign: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._foreign = foreign

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            ours = self._foreign.get(error.option_name)
            if ours is None:
                raise
            raise click.NoSuchOption(
                error.option_name, f"No such option {error.option_name!r}: here it is {ours}.", ctx=ctx
            ) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        for each in sorted(options, key=lambda each: not isinstance(each, SectionedOption)):
            heading = each.section if isinstance(each, SectionedOption) else "Options"
            if record := each.get_help_record(ctx):
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)
