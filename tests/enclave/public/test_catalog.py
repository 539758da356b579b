import json
import logging
import re
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from enclave.answer import Answer, Parameter
from enclave.public.catalog import Catalog
from enclave.public.catalog_parse import parse
from policies.document import read
from policies.model import Policy
from rewriter.refusal import InternalError, Refusal

CAPTURES = Path(__file__).parents[4] / "shared" / "bi-captures"
MOMENT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
POLICY = """
[room]
name = "cleanroom"
version = 1
environment = "development"
[owners.hospital]
[owners.bank]
[units.patient]
[tables.patients]
owner = "hospital"
comment = "patients (protected)"
unit = { name = "patient", column = "id" }
key = ["id"]
[tables.patients.columns]
id = { type = "bigint" }
name = { type = "text", not_null = true }
birth = { type = "date" }
sex = { type = "char(1)" }
zip = { type = "varchar(10)", comment = "zip code" }
score = { type = "numeric(10,2)" }
active = { type = "boolean" }
created = { type = "timestamptz" }
[tables.secrets]
owner = "bank"
public = true
[tables.secrets.columns]
pin = { type = "integer" }
[tables.visits]
owner = "hospital"
unit = { name = "patient", through = "patients", on = "id" }
key = ["visit_id"]
[tables.visits.columns]
visit_id = { type = "bigint" }
id = { type = "bigint" }
at = { type = "timestamp" }
cost = { type = "double precision" }
code = { type = "smallint" }
[tables.demo]
public = true
key = ["id"]
[tables.demo.columns]
id = { type = "integer" }
k = { type = "text" }
[budgets.patient]
epsilon = "8"
delta = "1e-6"
[roles.researcher]
tables = ["patients", "visits", "demo"]
epsilon = "3"
query_epsilon = "0.1"
[analysts.analyst]
role = "researcher"
verifier = "SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$KEY:KEY"
""".replace("KEY", "A" * 43 + "=")


@pytest.fixture(scope="module")
def policy() -> Policy:
    return read(POLICY)


@pytest.fixture(scope="module")
def catalog(policy: Policy) -> Catalog:
    return Catalog(policy, "analyst", clock=lambda: MOMENT)


def rows(answer: Answer) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in answer.table.to_pylist()]


def ask(catalog: Catalog, sql: str, *parameters: Parameter) -> list[tuple[Any, ...]]:
    return rows(catalog.answer(parse(sql), parameters))


def shape(catalog: Catalog, sql: str) -> list[tuple[str, int]]:
    return [(column.name, column.type_oid) for column in catalog.answer(parse(sql)).columns]


# What it says about the tables


def test_tables_are_listed_with_owner_and_kind(catalog: Catalog) -> None:
    found = ask(
        catalog,
        """SELECT n.nspname, c.relname, c.relkind, pg_catalog.pg_get_userbyid(c.relowner)
        FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND pg_catalog.pg_table_is_visible(c.oid)
        AND c.relkind = 'r' ORDER BY 1, 2""",
    )
    assert found == [
        ("public", "demo", "r", "cleanroom"),
        ("public", "patients", "r", "hospital"),
        ("public", "visits", "r", "hospital"),
    ]


def test_columns_have_their_types_modifiers_and_nullability(catalog: Catalog) -> None:
    found = ask(
        catalog,
        """SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
        WHERE attrelid = 'patients'::regclass AND attnum > 0 ORDER BY attnum""",
    )
    assert found == [
        ("id", "bigint", True),
        ("name", "text", True),
        ("birth", "date", False),
        ("sex", "character(1)", False),
        ("zip", "character varying(10)", False),
        ("score", "numeric(10,2)", False),
        ("active", "boolean", False),
        ("created", "timestamp with time zone", False),
    ]


def test_a_table_the_analyst_may_not_see_is_nowhere(catalog: Catalog) -> None:
    assert ask(catalog, "SELECT 1 FROM pg_class WHERE relname ~ 'secrets'") == []
    assert ask(catalog, "SELECT 1 FROM information_schema.columns WHERE column_name = 'pin'") == []
    assert ask(catalog, "SELECT rolname FROM pg_roles WHERE rolname = 'bank'") == []
    with pytest.raises(Refusal, match='relation "secrets" does not exist'):
        ask(catalog, "SELECT 'secrets'::regclass")


def test_oids_leave_no_gap_for_a_hidden_table(catalog: Catalog) -> None:
    oids = [
        oid for (oid,) in ask(catalog, "SELECT oid FROM pg_class WHERE relkind = 'r' AND oid >= 16384 ORDER BY oid")
    ]
    assert oids == [16384, 16400, 16416]


def test_declared_keys_are_primary_keys_and_paths_foreign_keys(catalog: Catalog) -> None:
    found = ask(
        catalog,
        """SELECT conname, contype, conrelid::regclass, confrelid::regclass, conkey, pg_get_constraintdef(oid, true)
        FROM pg_constraint ORDER BY conname""",
    )
    assert found == [
        ("demo_pkey", "p", "demo", "-", "{1}", "PRIMARY KEY (id)"),
        ("patients_pkey", "p", "patients", "-", "{1}", "PRIMARY KEY (id)"),
        ("visits_id_fkey", "f", "visits", "patients", "{2}", "FOREIGN KEY (id) REFERENCES patients(id)"),
        ("visits_pkey", "p", "visits", "-", "{1}", "PRIMARY KEY (visit_id)"),
    ]


def test_comments_are_descriptions(catalog: Catalog) -> None:
    sql = "SELECT obj_description('patients'::regclass, 'pg_class'), col_description('patients'::regclass, 5)"
    assert ask(catalog, sql) == [("patients (protected)", "zip code")]


def test_no_figure_comes_from_data(catalog: Catalog) -> None:
    sql = "SELECT DISTINCT reltuples, relpages FROM pg_class WHERE oid >= 16384"
    assert ask(catalog, sql) == [(-1.0, 0)]
    assert ask(catalog, "SELECT pg_table_size('patients'), pg_size_pretty(pg_total_relation_size('demo'))") == [
        (0, "0 bytes")
    ]
    assert ask(catalog, "SELECT * FROM pg_stats") == []


def test_information_schema_tells_the_same(catalog: Catalog) -> None:
    found = ask(
        catalog,
        """SELECT column_name, data_type, character_maximum_length, numeric_precision, numeric_scale, is_nullable
        FROM information_schema.columns WHERE table_name = 'patients' ORDER BY ordinal_position LIMIT 6""",
    )
    assert found[0] == ("id", "bigint", None, 64, 0, "NO")
    assert found[4:] == [
        ("zip", "character varying", 10, None, None, "YES"),
        ("score", "numeric", None, 10, 2, "YES"),
    ]
    joined = """SELECT k.table_name, k.column_name, u.table_name FROM information_schema.key_column_usage k
        JOIN information_schema.table_constraints c USING (constraint_name)
        JOIN information_schema.constraint_column_usage u USING (constraint_name)
        WHERE c.constraint_type = 'FOREIGN KEY'"""
    assert ask(catalog, joined) == [("visits", "id", "patients")]


def test_two_analysts_have_catalogues_of_their_own(policy: Policy) -> None:
    other = policy.model_copy(
        update={"roles": {"researcher": policy.roles["researcher"].model_copy(update={"tables": ("secrets",)})}}
    )
    assert ask(Catalog(other, "analyst"), "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [
        ("secrets",)
    ]


# Drivers' lookups


def test_psycopg_finds_a_type_by_name(catalog: Catalog) -> None:
    sql = """SELECT typname AS name, oid, typarray AS array_oid, oid::regtype::text AS regtype, typdelim AS delimiter
        FROM pg_type t WHERE t.oid = to_regtype($1) ORDER BY t.oid"""
    answer = catalog.answer(parse(sql), (Parameter(0, "timestamptz"),))
    assert rows(answer) == [("timestamptz", 1184, 1185, "timestamp with time zone", ",")]
    assert [column.type_oid for column in answer.columns] == [19, 26, 26, 25, 18]
    assert ask(catalog, sql, Parameter(0, "no_such_type")) == []


def test_array_parameters_are_taken_apart(catalog: Catalog) -> None:
    sql = "SELECT typname FROM pg_type WHERE oid = any($1::oid[]) ORDER BY oid"
    assert ask(catalog, sql, Parameter(1028, "{16,23}")) == [("bool",), ("int4",)]
    assert ask(catalog, sql, Parameter(0, "{}")) == []
    assert ask(catalog, sql, Parameter(0, None)) == []


def test_describe_types_parameters_and_runs_nothing(catalog: Catalog) -> None:
    answer = catalog.answer(
        parse("SELECT oid, $2::text, $3 FROM pg_class WHERE relname = $1"), (Parameter(0, None),), describe=True
    )
    assert answer.parameter_types == (19, 25, 25)
    assert [column.type_oid for column in answer.columns] == [26, 25, 25]
    assert answer.table.num_rows == 0


def test_vectors_count_from_zero_and_arrays_from_one(catalog: Catalog) -> None:
    sql = "SELECT indkey[0], indkey[i - 1], (ARRAY['a', 'b'])[i] FROM pg_index, generate_series(1, 1) i LIMIT 1"
    assert ask(catalog, sql) == [(1, 1, "a")]
    assert ask(catalog, "SELECT array_lower(indkey, 1), array_upper(indkey, 1) FROM pg_index LIMIT 1") == [(0, 0)]


def test_index_columns_expand_to_rows(catalog: Catalog) -> None:
    sql = "SELECT (information_schema._pg_expandarray(indkey)).n FROM pg_index WHERE indrelid = 'demo'::regclass"
    assert ask(catalog, sql) == [(1,)]


def test_grouping_by_a_key_determines_the_other_columns(catalog: Catalog) -> None:
    sql = """SELECT c.relname, count(*) FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid
        WHERE relname = 'demo' GROUP BY c.oid"""
    assert ask(catalog, sql) == [("demo", 2)]


# Constants


@pytest.mark.parametrize(
    ("sql", "name", "oid", "value"),
    [
        ("SELECT 1", "?column?", 23, 1),
        ("SELECT 3000000000", "?column?", 20, 3_000_000_000),
        ("SELECT 1.50", "?column?", 1700, "1.50"),
        ("SELECT 'a' AS x", "x", 25, "a"),
        ("SELECT 1 + 1", "?column?", 23, 2),
        ("SELECT 7 / 2", "?column?", 23, 3),
        ("SELECT true", "bool", 16, True),
        ("SELECT NULL", "?column?", 25, None),
        ("SELECT now()", "now", 1184, MOMENT),
        ("SELECT current_timestamp", "current_timestamp", 1184, MOMENT),
        ("SELECT current_date", "current_date", 1082, MOMENT.date()),
        ("SELECT current_database()", "current_database", 19, "cleanroom"),
        ("SELECT current_schema()", "current_schema", 19, "public"),
        ("SELECT current_user", "current_user", 19, "analyst"),
        ("SELECT user", "user", 19, "analyst"),
        ("SELECT substr('abc', 2)", "substr", 25, "bc"),
        ("SELECT ARRAY['a', NULL, 'b c']", "array", 1009, '{a,NULL,"b c"}'),
        ("SELECT '{1,2}'::int[]", "int4", 1007, "{1,2}"),
        ("SELECT ROW(1, 'a')", "row", 2249, "(1,a)"),
        ("SELECT 'patients'::regclass", "regclass", 2205, "patients"),
        ("SELECT 'int8'::regtype::oid", "oid", 26, 20),
        ("SELECT true::text", "text", 25, "true"),
        ("SELECT interval '26 hours'", "interval", 1186, "26:00:00"),
        ("SELECT CASE WHEN false THEN 1 ELSE 2.5 END", "case", 1700, "2.5"),
        ("SELECT extract(year FROM now())", "extract", 1700, "2026"),
        ("SELECT 'ab' LIKE 'a_'", "?column?", 16, True),
        ("SELECT json_build_object('a', 1, 'b', NULL)", "json_build_object", 114, '{"a" : 1, "b" : null}'),
        ("SELECT pg_typeof(1.5)", "pg_typeof", 2206, "numeric"),
    ],
)
def test_constants_have_postgres_types_and_names(
    catalog: Catalog, sql: str, name: str, oid: int, value: object
) -> None:
    tree = parse(sql)
    assert Catalog.mentions(tree)
    answer = catalog.answer(tree)
    assert [(column.name, column.type_oid) for column in answer.columns] == [(name, oid)]
    assert rows(answer) == [(value,)]


def test_version_reads_as_postgresql(catalog: Catalog) -> None:
    ((version,),) = ask(catalog, "SELECT version()")
    assert version.startswith("PostgreSQL 15.")


def test_unions_take_the_type_of_their_typed_side(catalog: Catalog) -> None:
    assert shape(catalog, "SELECT NULL AS a UNION SELECT relname FROM pg_class") == [("a", 19)]
    assert ask(catalog, "SELECT 1 UNION ALL SELECT '2' ORDER BY 1") == [(1,), (2,)]


# What belongs here


@pytest.mark.parametrize(
    ("sql", "belongs"),
    [
        ("SELECT 1", True),
        ("SELECT * FROM pg_class", True),
        ("SELECT * FROM information_schema.tables", True),
        ("WITH x AS (SELECT 1) SELECT * FROM x, generate_series(1, 2)", True),
        ("VALUES (1)", True),
        ("SELECT * FROM patients", False),
        ("SELECT (SELECT count(*) FROM patients) FROM pg_class", False),
        ("SELECT * FROM dp.budget", False),
        ("SELECT dp.evidence('00')", False),
        ("CREATE TABLE x (a int)", False),
        ("DELETE FROM pg_class", False),
    ],
)
def test_only_statements_about_the_catalogue_belong_here(sql: str, belongs: bool) -> None:
    assert Catalog.mentions(parse(sql)) is belongs


# What is not there


@pytest.mark.parametrize("sql", ["SELECT x, y FROM pg_catalog.pg_no_such", "SELECT * FROM pg_stat_activity"])
def test_an_unknown_relation_of_the_catalogue_is_empty(catalog: Catalog, sql: str) -> None:
    assert ask(catalog, sql) == []


def test_an_unknown_function_of_the_catalogue_is_null(catalog: Catalog) -> None:
    assert ask(catalog, "SELECT pg_catalog.pg_no_such(1), pg_get_viewdef(1)") == [(None, None)]
    assert shape(catalog, "SELECT pg_blocking_pids(1)") == [("pg_blocking_pids", 1007)]


@pytest.mark.parametrize(
    ("sql", "sqlstate", "message"),
    [
        ("SELECT nope", "42703", 'column "nope" does not exist'),
        ("SELECT c.nope FROM pg_class c", "42703", "column c.nope does not exist"),
        ("SELECT d.oid FROM pg_class c", "42P01", 'missing FROM-clause entry for table "d"'),
        ("SELECT oid FROM pg_class, pg_type", "42702", 'column reference "oid" is ambiguous'),
        ("SELECT nope(1)", "42883", "function nope(integer) does not exist"),
        ("SELECT relname = 1 FROM pg_class", "42883", "operator does not exist: name = integer"),
        ("SELECT 'x'::integer", "22P02", 'invalid input syntax for type integer: "x"'),
        ("SELECT 'nope'::regclass", "42P01", 'relation "nope" does not exist'),
        ("SELECT 1::nope", "42704", 'type "nope" does not exist'),
        ("SELECT 1 / 0", "22012", "division by zero"),
        ("SELECT 1 FROM pg_class WHERE 1", "42804", "argument of WHERE must be type boolean, not type integer"),
        ("SELECT (SELECT 1 UNION ALL SELECT 2)", "21000", "more than one row returned"),
        ("SELECT relname, count(*) FROM pg_class", "42803", "must appear in the GROUP BY clause"),
        ("SELECT 1 UNION SELECT 1, 2", "42601", "each UNION query must have the same number of columns"),
        ("SELECT 1 ORDER BY 2", "42P10", "ORDER BY position 2 is not in select list"),
        ("SELECT generate_series(1, 100000000)", "54000", "limited to 100000 rows"),
        ("SELECT 'x' ~ '('", "2201B", "invalid regular expression"),
        ("SELECT 1 FROM pg_class TABLESAMPLE SYSTEM (10)", "0A000", "not supported"),
        ("SELECT 1 FROM pg_class FOR UPDATE", "0A000", "not supported"),
    ],
)
def test_mistakes_are_told_in_postgres_words(catalog: Catalog, sql: str, sqlstate: str, message: str) -> None:
    with pytest.raises(Refusal) as caught:
        ask(catalog, sql)
    assert caught.value.sqlstate == sqlstate
    assert message in caught.value.message


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM duckdb_tables()",
        "SELECT * FROM query('SELECT 1')",
        "SELECT query('SELECT 1')",
        "SELECT json_execute_serialized_sql('{}')",
        "SELECT getenv('HOME')",
        "SELECT getvariable('own_class')",
        "SELECT own_reg(1, 2)",
        "SELECT current_setting('memory_limit') || own_version()",
        'SELECT * FROM "own.names"',
        'SELECT * FROM "pg_catalog.pg_class"',
        "SELECT * FROM main.sqlite_master",
        "SELECT repeat('a', 2000000000)",
        "SELECT lpad('a', 2000000000, 'b')",
    ],
)
def test_nothing_of_the_engine_can_be_reached(catalog: Catalog, sql: str) -> None:
    with pytest.raises(Refusal) as caught:
        ask(catalog, sql)
    assert caught.value.sqlstate in ("42883", "42P01", "42601")


def test_text_that_looks_like_our_own_stays_text(catalog: Catalog) -> None:
    for text in ("own_now()", "{0}", "{*}", "';--", "''", '"', "\\", "$1", "%s"):
        quoted = text.replace("'", "''")
        assert ask(catalog, f"SELECT concat('{quoted}', '!'), upper('{quoted}')") == [(text + "!", text.upper())]


def test_nested_unions_do_not_blow_up(catalog: Catalog) -> None:
    sql = "'a'"
    for _ in range(25):
        sql = f"(SELECT {sql} UNION SELECT 'a')"
    with pytest.raises(Refusal) as caught:
        ask(catalog, f"SELECT {sql}")
    assert caught.value.sqlstate == "54001"


def test_an_engine_failure_says_nothing_of_it(policy: Policy, capsys: pytest.CaptureFixture[str]) -> None:
    broken = Catalog(policy, "analyst")
    broken._engine.execute('DROP TABLE "pg_catalog.pg_class"')
    with pytest.raises(InternalError) as caught:
        ask(broken, "SELECT 'secret value' FROM pg_class")
    shown = capsys.readouterr().err
    assert caught.value.error_id in shown
    assert "secret" not in shown
    assert "pg_class" not in shown


# Against what real clients sent


def captured(client: str) -> list[dict[str, Any]]:
    path = CAPTURES / f"{client}.jsonl"
    if not path.exists():
        pytest.skip(f"the captures of real clients are not at {CAPTURES}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def belonging(client: str) -> list[dict[str, Any]]:
    """The captured statements that PostgreSQL answered with columns and that are the catalogue's to answer."""
    found = []
    for entry in captured(client):
        fields = [result["fields"] for result in entry.get("results", []) if result.get("fields")]
        if "error" in entry or len(fields) != 1:
            continue
        try:
            tree = parse(entry["sql"])
        except Refusal:
            continue
        if Catalog.mentions(tree) and "::bank." not in entry["sql"]:
            found.append({**entry, "tree": tree, "fields": fields[0]})
    return found


def parameters(entry: dict[str, Any]) -> tuple[Parameter, ...]:
    oids = entry.get("param_oids") or []
    values = entry.get("params") or []
    return tuple(_parameter(value, oids[at] if at < len(oids) else 0) for at, value in enumerate(values))


def _parameter(value: Any, oid: int) -> Parameter:
    if not isinstance(value, dict):
        return Parameter(oid, value)
    raw = bytes.fromhex(value["hex"])
    if oid in (20, 21, 23, 26):
        return Parameter(oid, str(int.from_bytes(raw, "big", signed=True)))
    if len(raw) >= 20 and raw[:4] == b"\0\0\0\1":  # one dimension: an array
        count = struct.unpack_from(">i", raw, 12)[0]
        items = [struct.unpack_from(">i", raw, 24 + 8 * at)[0] for at in range(count)]
        return Parameter(oid, "{" + ",".join(map(str, items)) + "}")
    return Parameter(oid, str(int.from_bytes(raw, "big")) if raw[:1] == b"\0" else raw.decode())


def compare(catalog: Catalog, entry: dict[str, Any]) -> str:
    """What differs from PostgreSQL's columns, or nothing."""
    want = [(field[0], field[3]) for field in entry["fields"]]
    try:
        answer = catalog.answer(entry["tree"], parameters(entry))
        described = catalog.answer(entry["tree"], parameters(entry), describe=True)
    except (Refusal, InternalError) as error:
        return str(error)
    got = [(column.name, column.type_oid) for column in answer.columns]
    assert described.columns == answer.columns
    return "" if got == want else f"{got} instead of {want}"


CLIENTS = {
    "psql-15": 0.97,
    "psycopg3": 1.0,
    "asyncpg": 0.6,  # its pipelining makes the recorder pair some statements with other statements' columns
    "psycopg2": 1.0,
    "pgjdbc-42.5": 0.97,
    "psqlodbc-13": 0.97,
    "adbc": 0.97,
    "dbt": 1.0,
    "metabase-0.62-replay": 0.97,
    "sqlalchemy21-psycopg": 0.97,
}


@pytest.mark.parametrize("client", CLIENTS)
def test_captured_statements_have_the_columns_that_postgres_gave(
    catalog: Catalog, client: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    failures = {}
    entries = belonging(client)
    for entry in entries:
        difference = compare(catalog, entry)
        if difference:
            failures[re.sub(r"\s+", " ", entry["sql"])[:100]] = difference
    rate = 1 - len(failures) / len(entries)
    print(f"{client}: {rate:.1%} of {len(entries)}", *failures.items(), sep="\n  ")
    assert rate >= CLIENTS[client], failures


def test_no_captured_statement_stands_in_the_code() -> None:
    code = "".join(path.read_text() for path in Path("enclave/public").glob("catalog*.py"))
    squeezed = re.sub(r"\s+", " ", code)
    for client in ("psql-15", "asyncpg", "pgjdbc-42.5"):
        for entry in captured(client):
            sql = re.sub(r"\s+", " ", entry.get("sql", ""))
            assert len(sql) < 60 or sql not in squeezed
