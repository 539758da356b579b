"""cli: the `cleanroom` command. Each command imports what it needs when it runs."""

from __future__ import annotations

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cleanroom")
def main() -> None:
    """A confidential data clean room that speaks Postgres."""
