from __future__ import annotations

import base64
import hashlib
import hmac
import tomllib
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pgproxy.cli import main


def user(*arguments: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(main, ["user", *arguments], input=stdin)


def entry(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = tomllib.loads(result.stdout)["analysts"]
    return found


def opens(verifier: str, password: bytes) -> bool:
    """RFC 5802 section 3, written out anew: does the verifier come from this password?"""
    _, head, tail = verifier.split("$")
    iterations, salt = head.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(salt), int(iterations))
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return tail == ":".join(base64.b64encode(key).decode() for key in (stored, server))


def test_a_password_from_stdin_becomes_an_entry() -> None:
    ana = entry(user("ana", "--role", "researcher", "--password-stdin", stdin="demo\nnext line\n"))["ana"]
    assert ana["role"] == "researcher"
    assert ana["verifier"].startswith("SCRAM-SHA-256$4096:")
    assert opens(ana["verifier"], b"demo")
    assert not opens(ana["verifier"], b"demo\n")


@pytest.mark.parametrize("line", ["demo", "demo\n", "demo\r\n"])
def test_line_ends_are_no_part_of_the_password(line: str) -> None:
    assert opens(entry(user("ana", "--password-stdin", stdin=line))["ana"]["verifier"], b"demo")


def test_spaces_are_part_of_the_password() -> None:
    assert opens(entry(user("ana", "--password-stdin", stdin=" a b \n"))["ana"]["verifier"], b" a b ")


def test_passwords_are_normalised_as_postgres_does() -> None:
    # RFC 4013 section 3: SOFT HYPHEN maps to nothing; ROMAN NUMERAL NINE becomes IX under NFKC.
    soft = entry(user("ana", "--password-stdin", stdin="I\u00adX\n"))["ana"]["verifier"]
    nine = entry(user("ana", "--password-stdin", stdin="\u2168\n"))["ana"]["verifier"]
    assert opens(soft, b"IX")
    assert opens(nine, b"IX")
    # Prohibited output (a control character): the raw bytes are used.
    assert opens(entry(user("ana", "--password-stdin", stdin="a\x07\n"))["ana"]["verifier"], b"a\x07")


def test_the_same_password_twice_gives_two_salts() -> None:
    first, second = (user("ana", "--password-stdin", stdin="demo\n").output for _ in range(2))
    assert first != second


def test_a_typed_password_is_asked_for_twice_and_not_shown() -> None:
    result = user("ana", stdin="demo\ndemo\n")
    assert opens(entry(result)["ana"]["verifier"], b"demo")
    assert "demo" not in result.output
    assert "Password again" in result.stderr
    assert "Password" not in result.stdout


def test_two_different_passwords_are_asked_for_again() -> None:
    result = user("ana", stdin="one\ntwo\nthree\nthree\n")
    assert opens(entry(result)["ana"]["verifier"], b"three")


def test_the_role_is_a_placeholder_unless_given() -> None:
    assert entry(user("ana", "--password-stdin", stdin="demo\n"))["ana"]["role"] == "ROLE"


@pytest.mark.parametrize("stdin", ["", "\n"])
def test_an_empty_password_is_refused(stdin: str) -> None:
    result = user("ana", "--password-stdin", stdin=stdin)
    assert result.exit_code == 1
    assert "the password is empty" in result.output


def test_bytes_that_are_no_text_are_refused_unseen() -> None:
    result = user("ana", "--password-stdin", stdin=b"\xff\xfe\n")
    assert result.exit_code == 1
    assert result.stderr == "Error: the password is not UTF-8\n"


@pytest.mark.parametrize("name", ["Ana", "a b", "", "pg_ana", "1a", "a" * 64, 'a"]', "ana\n", "dp"])
def test_names_that_a_policy_would_refuse_are_refused(name: str) -> None:
    result = user("--password-stdin", "--", name, stdin="demo\n")
    assert result.exit_code == 2
    assert user("ana", "--role", name, "--password-stdin", stdin="demo\n").exit_code == 2


@pytest.mark.parametrize("name", ["public", "none", "attest", "ROLE"])
def test_names_that_are_no_analysts_are_refused(name: str) -> None:
    assert user("--password-stdin", name, stdin="demo\n").exit_code == 2


def test_help_has_examples() -> None:
    assert "Examples:\n    cleanroom user ana --role researcher" in user("--help").output
