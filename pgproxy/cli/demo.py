"""demo: `cleanroom demo`, a folder -> a room with made-up data in it, open on this machine.

    DIR/data/       members.parquet, encounters.parquet
    DIR/state/      what the room itself keeps: ledger, log, releases
    DIR/policy.toml what the owners would have agreed
    DIR/demo.json   from which seed, by which version of the generator; written last

A folder whose demo.json fits is used as it is, with all that has been asked in it before.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

import policies
from pgproxy import scram
from pgproxy.cli import demo_data

ANALYST: Final = "ana"
PASSWORD: Final = "demo"  # noqa: S105 # printed at every start: it guards made-up data
SEED: Final = 1999
HOST: Final = "127.0.0.1"
PORT: Final = 5433
EXAMPLE: Final = Path(policies.__file__).parent / "examples" / "hospital.toml"
_SALT: Final = b"cleanroom-demo-1"
"""Fixed, so that the policy and its hash are the same everywhere; the password it would protect is public."""

_HEAD: Final = """\
# Who comes back to the hospital? The room of `cleanroom demo`, after policies/examples/hospital.toml.
# Nobody in it is real: the insurer, the hospital group, their members and every stay are drawn from a seed.

[room]
name = "demo"
version = 1
environment = "development"

"""
_TAIL: Final = """\
# Two hundred questions at epsilon 0.1, or two at 1. One analyst may use all of it, as there is no other.
[budgets.member]
epsilon = "8"
delta = "1e-6"

[roles.researcher]
tables = ["members", "encounters"]
epsilon = "8"
query_epsilon = "0.1"
query_epsilon_max = "1"

# The password is "{password}".
[analysts.{analyst}]
role = "researcher"
verifier = "{verifier}"
"""

QUERIES: Final = (
    """\
SELECT m.age_band,
       avg(CASE WHEN e.readmitted = 'YES' THEN 1 ELSE 0 END) AS readmitted,
       avg(e.time_in_hospital) AS days
  FROM members m JOIN encounters e ON e.member_id = m.member_id
 GROUP BY m.age_band ORDER BY m.age_band;""",
    "SELECT race, count(*) FROM members GROUP BY race;",
    """\
SELECT diag_1, count(*) AS stays FROM encounters
 GROUP BY diag_1 ORDER BY stays DESC LIMIT 10;""",
)
"""A join of two owners, a table with public groups, and groups that must pass a noisy threshold."""

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Room:
    """The folder of a demo room."""

    folder: Path

    @property
    def data(self) -> Path:
        """Where the tables are."""
        return self.folder / "data"

    @property
    def state(self) -> Path:
        """Where the room keeps what must survive it."""
        return self.folder / "state"

    @property
    def policy(self) -> Path:
        """The policy in TOML."""
        return self.folder / "policy.toml"

    @property
    def stamp(self) -> Path:
        """What the data were made from."""
        return self.folder / "demo.json"


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path(".demo"), show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 picks a free one.")
@click.option("--seed", type=click.IntRange(0), default=SEED, show_default=True, help="Another seed, other people.")
def demo(folder: Path, port: int, seed: int) -> None:
    """Open a room with made-up data on this machine.

    The first run makes an insurer's members, a hospital group's stays and a
    policy in --dir; later runs go on with what is there. Stop it with Ctrl-C,
    and delete --dir to start over with a full budget.

    \b
    Examples:
      cleanroom demo
      cleanroom demo --dir /tmp/room --port 5434
    """  # noqa: D301 # \b is click's mark for a paragraph that keeps its lines
    # Every command imports its engine when it runs; `demo --help` needs none.
    from pgproxy.cli import serve

    room = Room(folder)
    try:
        prepare(room, seed)
    except OSError as error:
        raise click.ClickException(f"{folder}: cannot be written: {error.strerror or type(error).__name__}") from None
    sys.exit(serve.run(room.policy, room.data, room.state, HOST, port, None, None, ready=_welcome))


def prepare(room: Room, seed: int) -> bool:
    """Make what the folder lacks; returns False if it had everything from that seed already.

    A policy that somebody edited stays as long as the generator does.

    Raises:
        OSError: the folder cannot be written.
    """
    wanted = {"generator": demo_data.GENERATOR_VERSION, "seed": seed}
    room.state.mkdir(parents=True, exist_ok=True)
    room.data.mkdir(parents=True, exist_ok=True)
    current = _stamped(room) == wanted
    if not current or not room.policy.exists():
        _replace(room.policy, policy_text().encode())
    if current and all((room.data / f"{name}.parquet").exists() for name in demo_data.TABLES):
        return False
    # Until the new stamp is there, an interrupted run is none.
    room.stamp.unlink(missing_ok=True)
    _make(room, seed)
    _replace(room.stamp, json.dumps(wanted).encode())
    return True


def policy_text() -> str:
    """The demo's policy: owners, units and tables of the hospital example, and one analyst."""
    example = EXAMPLE.read_text(encoding="utf-8")
    tables = example[example.index("[owners.insurer]") : example.index("[budgets.")]
    # What stands right above the example's budget is about that budget.
    tables = tables[: tables.rindex("\n\n") + 2]
    verifier = scram.make_verifier(PASSWORD, _SALT)
    return _HEAD + tables + _TAIL.format(password=PASSWORD, analyst=ANALYST, verifier=verifier)


def guide(host: str, port: int) -> str:
    """What to type next."""
    shown = "\n\n".join("  " + query.replace("\n", "\n  ") for query in QUERIES)
    return (
        f"\nThe room is open. In another terminal:\n\n"
        f'  psql "host={host} port={port} user={ANALYST} dbname=cleanroom"\n\n'
        f"Password: {PASSWORD}\n\n"
        f"Three queries worth trying; each costs epsilon 0.1 once, and nothing when asked again:\n\n"
        f"{shown}\n\n"
        f"What is left: SELECT * FROM dp.budget;   What a query would cost: EXPLAIN SELECT ...\n"
    )


def _welcome(host: str, port: int) -> None:
    click.echo(guide(host, port))


def _stamped(room: Room) -> Any:
    try:
        return json.loads(room.stamp.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _make(room: Room, seed: int) -> None:
    import pyarrow.parquet as pq
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<44}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=1 + len(demo_data.TABLES))
        progress.update(task, description=f"Making up {demo_data.MEMBERS:,} people and their stays")
        tables = demo_data.make(seed)
        for name, table in tables.items():
            progress.update(task, advance=1, description=f"Writing {table.num_rows:,} rows of {name}")
            path = room.data / f"{name}.parquet"
            pq.write_table(table, _part(path))
            os.replace(_part(path), path)
        progress.update(task, advance=1, description="Made-up data ready")


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    _part(path).write_bytes(content)
    os.replace(_part(path), path)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
