"""user: `cleanroom user`, a password -> the analyst's entry in a policy."""

from __future__ import annotations

import secrets
import sys
from typing import Final

import click

from pgproxy import scram
from policies import checks

SALT_BYTES: Final = 16
"""What Postgres uses (src/include/common/scram-common.h, SCRAM_DEFAULT_SALT_LEN)."""
ROLE_OPEN: Final = "ROLE"
"""Stands for a role that is still to be chosen; no policy accepts it."""


@click.command()
@click.argument("name")
@click.option("--role", default=ROLE_OPEN, show_default=True, help="The analyst's role, one of [roles].")
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of standard input.")
def user(name: str, role: str, password_stdin: bool) -> None:
    """Print the policy entry of the analyst NAME.

    It holds a SCRAM-SHA-256 verifier, as Postgres stores it, and not the
    password, which is asked for twice and shown nowhere.

    \b
    Examples:
      cleanroom user ana --role researcher >> room.toml
      pass show room/ana | cleanroom user ana --password-stdin
    """  # noqa: D301 # \b is click's mark for a paragraph that keeps its lines
    _refuse_misnamed("NAME", name, "analysts")
    if role != ROLE_OPEN:
        _refuse_misnamed("--role", role, "roles")
    password = _from_stdin() if password_stdin else _asked()
    if not password:
        raise click.ClickException("the password is empty")
    verifier = scram.make_verifier(password, secrets.token_bytes(SALT_BYTES))
    click.echo(f'[analysts.{name}]\nrole = "{role}"\nverifier = "{verifier}"')


def _refuse_misnamed(argument: str, name: str, section: str) -> None:
    for message in checks.misnamed(name, section):
        raise click.BadParameter(f"{name!r} {message}", param_hint=argument)


def _asked() -> str:
    # On stderr, so that `>> room.toml` takes the entry alone.
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt="Password again", err=True)
    return answer


def _from_stdin() -> str:
    line = sys.stdin.buffer.readline()
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        raise click.ClickException("the password is not UTF-8") from None
