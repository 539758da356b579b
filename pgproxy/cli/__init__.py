"""cli: the `cleanroom` command. Each command is imported when it runs, so that `--help` loads no engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command that is not imported yet: its line in `cleanroom --help` and how to import it."""

    summary: str
    load: Callable[[], click.Command]


def _demo() -> click.Command:
    from pgproxy.cli.demo import demo

    return demo


def _policy() -> click.Command:
    from pgproxy.cli.policy import policy

    return policy


def _serve() -> click.Command:
    from pgproxy.cli.serve import serve

    return serve


def _user() -> click.Command:
    from pgproxy.cli.user import user

    return user


COMMANDS: dict[str, Lazy] = {
    "demo": Lazy("Open a room with made-up data on this machine.", _demo),
    "policy": Lazy("Check what the owners agreed on.", _policy),
    "serve": Lazy("Open a room.", _serve),
    "user": Lazy("Make an analyst's entry for a policy.", _user),
}


class LazyGroup(click.Group):
    """Commands by `COMMANDS`; click's own group would import them all for their help lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's signature
        """Name the commands in the order of the help."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 # as above
        """Import a command, or None if there is none of that name."""
        lazy = COMMANDS.get(cmd_name)
        return None if lazy is None else lazy.load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help lines from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cleanroom")
def main() -> None:
    """A confidential data clean room that speaks Postgres."""
