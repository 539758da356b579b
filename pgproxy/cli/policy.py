"""policy: `cleanroom policy`, what people who write a policy run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from policies import document, seal
from policies.document import Document, PolicyError


@click.group()
def policy() -> None:
    """Check what the owners agreed on."""


@policy.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Name every mistake in the policy FILE with its line, and warn of weak choices.

    \b
    Prints one line for each:
      room.toml:12: tables.visits.key[0]: table visits has no column 'visit'
      warning: room.toml:4: tables.visits: rows_per_unit is not declared: ...
    Without mistakes the last line names the room and the SHA-256 that its
    owners sign.

    \b
    Exit status: 0 the policy is good, even with warnings; 1 it is not, or it
    cannot be read; 2 the command was not called like this.

    \b
    Examples:
      cleanroom policy check room.toml
      cleanroom policy check room.toml && git commit -m 'Policy 3' room.toml
    """  # noqa: D301 # \b is click's mark for a paragraph that keeps its lines
    try:
        text = document.decode(file.read_bytes(), str(file))
        found = document.parse(text, str(file))
    except OSError as error:
        click.echo(f"{file}: cannot be read: {error.strerror or type(error).__name__}", err=True)
        sys.exit(1)
    except PolicyError as error:
        for problem in error.problems:
            click.echo(f"{file}:{problem}")
        sys.exit(1)
    for warning in found.warnings:
        click.echo(f"warning: {file}:{warning}")
    click.echo(_summary(found))


def _summary(found: Document) -> str:
    room, tables = found.policy.room, len(found.policy.tables)
    plural = "table" if tables == 1 else "tables"
    return f"{room.name}: version {room.version}, {tables} {plural}, sha256 {seal.digest(found.policy)}"
