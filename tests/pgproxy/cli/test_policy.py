from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pgproxy.cli import COMMANDS, main
from policies import document, seal

EXAMPLES = Path(document.__file__).parent / "examples"


def check(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["policy", "check", *arguments])


@pytest.mark.parametrize(("name", "room", "count"), [("hospital", "readmissions", 2), ("bank", "bank", 7)])
def test_a_good_policy_is_one_line(name: str, room: str, count: int) -> None:
    file = EXAMPLES / f"{name}.toml"
    result = check(str(file))
    assert result.exit_code == 0
    assert result.output == f"{room}: version 1, {count} tables, sha256 {seal.digest(document.load(file))}\n"


def test_mistakes_have_file_line_and_field(tmp_path: Path) -> None:
    file = tmp_path / "room.toml"
    file.write_text('[room]\nname = "r"\nversion = 0\nenvironment = "development"\n[rooms]\n', encoding="utf-8")
    result = check(str(file))
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"{file}:1: tables: a policy needs at least one table",
        f"{file}:3: room.version: must be 1 to 2147483647",
        f"{file}:5: rooms: is unknown; did you mean room?",
    ]


def test_warnings_are_marked_and_do_not_fail(tmp_path: Path) -> None:
    file = tmp_path / "room.toml"
    text = '[room]\nname = "r"\nversion = 1\nenvironment = "development"\n[tables.t]\npublic = true\n'
    file.write_text(text + '[tables.t.columns]\nx = { type = "text" }\n', encoding="utf-8")
    result = check(str(file))
    assert result.exit_code == 0
    first, second, last = result.output.splitlines()
    assert first == f"warning: {file}:1: analysts: nobody may ask anything"
    assert second == f"warning: {file}:5: tables.t: no role sees it"
    assert last.startswith("r: version 1, 1 table, sha256 ")


def test_an_unreadable_file_is_a_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        result = check(str(path))
        assert result.exit_code == 1
        assert result.output.startswith(f"{path}: cannot be read: ")
        assert "Traceback" not in result.output


def test_a_file_that_is_not_text_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "room.toml"
    file.write_bytes(b"\n\xff\n")
    result = check(str(file))
    assert (result.exit_code, result.output) == (1, f"{file}:2: is not UTF-8\n")


def test_wrong_usage_is_2() -> None:
    assert check().exit_code == 2
    assert check("a", "b").exit_code == 2
    assert CliRunner().invoke(main, ["polcy"]).exit_code == 2


def test_help_has_examples_and_exit_status() -> None:
    output = check("--help").output
    assert "Examples:\n    cleanroom policy check room.toml\n" in output
    assert "Exit status" in output


def test_help_lists_every_command_and_imports_no_engine() -> None:
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom pgproxy.cli import main\n"
        "print(CliRunner().invoke(main, ['--help']).output)\n"
        "heavy = {'duckdb', 'opendp', 'pyarrow', 'sqlglot', 'numpy', 'pydantic', 'cryptography', 'asyncio'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules) - {'asyncio'}))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.rstrip().endswith("heavy: []")
    for name, lazy in COMMANDS.items():
        assert f"  {name}" in run.stdout
        assert lazy.summary in run.stdout


@pytest.mark.parametrize("name", ["policy", "user"])
def test_help_lines_are_the_commands_own(name: str) -> None:
    command = COMMANDS[name].load()
    assert command.name == name
    assert command.help
