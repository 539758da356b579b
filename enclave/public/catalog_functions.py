"""catalog_functions: the functions that a catalogue query may call -> what the engine computes for them.

A closed list: a name that is not here never reaches the engine. None of them reads a file, sleeps, or makes a long
string out of a short one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from enclave.public.catalog_types import TEXT, UNKNOWN, comparable, type_named, types

ANY: Final = 0
"""Stands for any type in `Function.arguments`."""
ANY_ARRAY: Final = -1
SAME: Final = -2
"""Result: the type of the first argument."""
ELEMENT: Final = -3
"""Result: the element type of the first argument, an array."""
SERIES_MAX: Final = 100_000
"""Rows of a generate_series: catalogue queries count columns."""


@dataclass(frozen=True, slots=True)
class Function:
    """One overload of a scalar function, an aggregate or a window function.

    Attributes:
        arguments: type OIDs, or ANY or ANY_ARRAY.
        variadic: True if the last of them repeats.
        result: a type OID, or SAME or ELEMENT.
        template: the engine's expression; {0} is the first argument, {*} all of them.
    """

    name: str
    arguments: tuple[int, ...]
    variadic: bool
    result: int
    template: str

    def takes(self, given: Sequence[int]) -> int | None:
        """How badly the argument types fit, 0 being best; None if they do not."""
        if len(given) != len(self.arguments) and not (self.variadic and len(given) >= len(self.arguments)):
            return None
        costs = [_cost(self._wanted(at), oid) for at, oid in enumerate(given)]
        return None if None in costs else sum(cost or 0 for cost in costs)

    def wanted(self, count: int) -> list[int]:
        """The argument types for a call with so many arguments."""
        return [self._wanted(at) for at in range(count)]

    def _wanted(self, at: int) -> int:
        return self.arguments[min(at, len(self.arguments) - 1)]


_SCALARS: Final = """
version() text = own_version()
current_database() name = own_database()
current_catalog() name = own_database()
current_schema() name = 'public'
current_schemas(bool) name[] = CASE WHEN {0} THEN ['pg_catalog', 'public'] ELSE ['public'] END
current_user() name = own_user()
session_user() name = own_user()
user() name = own_user()
current_role() name = own_user()
now() timestamptz = own_now()
current_timestamp() timestamptz = own_now()
statement_timestamp() timestamptz = own_now()
transaction_timestamp() timestamptz = own_now()
clock_timestamp() timestamptz = own_now()
pg_postmaster_start_time() timestamptz = own_now()
pg_conf_load_time() timestamptz = own_now()
localtimestamp() timestamp = CAST(own_now() AS TIMESTAMP)
current_date() date = CAST(own_now() AS DATE)
pg_backend_pid() int4 = 1
pg_is_in_recovery() bool = FALSE
pg_is_other_temp_schema(oid) bool = FALSE
pg_my_temp_schema() oid = 0
pg_cancel_backend(int4) bool = FALSE
pg_terminate_backend(int4) bool = FALSE
pg_sleep(float8) void = ''
pg_advisory_unlock_all() void = ''
getdatabaseencoding() name = 'UTF8'
pg_client_encoding() name = 'UTF8'
pg_encoding_to_char(int4) name = CASE {0} WHEN 6 THEN 'UTF8' WHEN 0 THEN 'SQL_ASCII' ELSE '' END
pg_char_to_encoding(name) int4 = CASE upper({0}) WHEN 'UTF8' THEN 6 WHEN 'SQL_ASCII' THEN 0 ELSE -1 END
current_setting(text) text = own_setting({0})
current_setting(text, bool) text = own_setting({0})
set_config(text, text, bool) text = {1}
pg_get_userbyid(oid) name = own_role({0})
format_type(oid, int4) text = own_format_type({0}, {1})
obj_description(oid, name) text = own_description({0}, {1}, 0)
obj_description(oid) text = own_comment({0})
col_description(oid, int4) text = own_description({0}, 'pg_class', {1})
shobj_description(oid, name) text = CAST(NULL AS VARCHAR)
pg_get_constraintdef(oid) text = own_definition({0}, 0)
pg_get_constraintdef(oid, bool) text = own_definition({0}, 0)
pg_get_indexdef(oid) text = own_definition({0}, 0)
pg_get_indexdef(oid, int4, bool) text = own_definition({0}, CASE WHEN {1} = 0 AND {2} THEN -1 ELSE {1} END)
pg_table_is_visible(oid) bool = getvariable('own_visible_class')[{0}]
pg_type_is_visible(oid) bool = getvariable('own_visible_type')[{0}]
pg_function_is_visible(oid) bool = getvariable('own_visible_proc')[{0}]
pg_operator_is_visible(oid) bool = TRUE
pg_opclass_is_visible(oid) bool = TRUE
pg_opfamily_is_visible(oid) bool = TRUE
pg_collation_is_visible(oid) bool = TRUE
pg_conversion_is_visible(oid) bool = TRUE
pg_statistics_obj_is_visible(oid) bool = TRUE
pg_ts_config_is_visible(oid) bool = TRUE
pg_ts_dict_is_visible(oid) bool = TRUE
pg_ts_parser_is_visible(oid) bool = TRUE
pg_ts_template_is_visible(oid) bool = TRUE
pg_relation_is_publishable(regclass) bool = FALSE
has_table_privilege(any, text) bool = own_may({1})
has_table_privilege(any, any, text) bool = own_may({2})
has_column_privilege(any, any, text) bool = own_may({2})
has_column_privilege(any, any, any, text) bool = own_may({3})
has_any_column_privilege(any, text) bool = own_may({1})
has_any_column_privilege(any, any, text) bool = own_may({2})
has_schema_privilege(any, text) bool = own_may({1})
has_schema_privilege(any, any, text) bool = own_may({2})
has_database_privilege(any, text) bool = own_may({1})
has_database_privilege(any, any, text) bool = own_may({2})
has_function_privilege(any, text) bool = own_may({1})
has_function_privilege(any, any, text) bool = own_may({2})
has_sequence_privilege(any, text) bool = own_may({1})
has_type_privilege(any, text) bool = own_may({1})
has_language_privilege(any, text) bool = own_may({1})
has_tablespace_privilege(any, text) bool = FALSE
pg_has_role(any, text) bool = own_may({1})
pg_has_role(any, any, text) bool = own_may({2})
pg_table_size(regclass) int8 = CAST(0 AS BIGINT)
pg_relation_size(regclass) int8 = CAST(0 AS BIGINT)
pg_relation_size(regclass, text) int8 = CAST(0 AS BIGINT)
pg_total_relation_size(regclass) int8 = CAST(0 AS BIGINT)
pg_indexes_size(regclass) int8 = CAST(0 AS BIGINT)
pg_database_size(any) int8 = CAST(0 AS BIGINT)
pg_tablespace_size(any) int8 = CAST(0 AS BIGINT)
pg_size_pretty(numeric) text = CAST(CAST({0} AS BIGINT) AS VARCHAR) || ' bytes'
pg_tablespace_location(oid) text = ''
oidvectortypes(oidvector) text = array_to_string(list_transform({0}, lambda o: own_format_type(o, NULL)), ', ')
quote_ident(text) text = own_quote_ident({0})
quote_literal(text) text = '''' || replace({0}, '''', '''''') || ''''
quote_nullable(text) text = coalesce('''' || replace({0}, '''', '''''') || '''', 'NULL')
lower(text) text = lower({0})
upper(text) text = upper({0})
length(text) int4 = CAST(length({0}) AS INTEGER)
char_length(text) int4 = CAST(length({0}) AS INTEGER)
character_length(text) int4 = CAST(length({0}) AS INTEGER)
octet_length(text) int4 = CAST(strlen({0}) AS INTEGER)
substring(text, int4) text = substring({0}, {1})
substring(text, int4, int4) text = own_substring({0}, {1}, {2})
substring(text, text) text = own_match({0}, {1})
substr(text, int4) text = substring({0}, {1})
substr(text, int4, int4) text = own_substring({0}, {1}, {2})
left(text, int4) text = left({0}, {1})
right(text, int4) text = right({0}, {1})
replace(text, text, text) text = CASE WHEN {1} = '' THEN {0} ELSE replace({0}, {1}, {2}) END
btrim(text) text = trim({0}, ' ')
btrim(text, text) text = trim({0}, {1})
ltrim(text) text = ltrim({0}, ' ')
ltrim(text, text) text = ltrim({0}, {1})
rtrim(text) text = rtrim({0}, ' ')
rtrim(text, text) text = rtrim({0}, {1})
strpos(text, text) int4 = CAST(instr({0}, {1}) AS INTEGER)
position(text, text) int4 = CAST(instr({0}, {1}) AS INTEGER)
starts_with(text, text) bool = starts_with({0}, {1})
split_part(text, text, int4) text = coalesce(split_part({0}, {1}, {2}), '')
reverse(text) text = reverse({0})
ascii(text) int4 = ascii({0})
md5(text) text = md5({0})
concat(variadic any) text = concat({*})
format(text, variadic any) text = own_format({0}, [{*}][2:])
format(text) text = {0}
regexp_replace(text, text, text) text = regexp_replace({0}, {1}, {2})
regexp_replace(text, text, text, text) text = regexp_replace({0}, {1}, {2})
string_to_array(text, text) text[] = string_split({0}, {1})
array_to_string(text[], text) text = own_join({0}, {1})
array_to_string(text[], text, text) text = own_join(list_transform({0}, lambda e: coalesce(e, {2})), {1})
array_lower(int2vector, int4) int4 = CASE WHEN len({0}) > 0 AND {1} = 1 THEN 0 END
array_lower(oidvector, int4) int4 = CASE WHEN len({0}) > 0 AND {1} = 1 THEN 0 END
array_lower(anyarray, int4) int4 = CASE WHEN len({0}) > 0 AND {1} = 1 THEN 1 END
array_upper(int2vector, int4) int4 = CASE WHEN len({0}) > 0 AND {1} = 1 THEN CAST(len({0}) AS INTEGER) - 1 END
array_upper(oidvector, int4) int4 = CASE WHEN len({0}) > 0 AND {1} = 1 THEN CAST(len({0}) AS INTEGER) - 1 END
array_upper(anyarray, int4) int4 = CASE WHEN len({0}) > 0 AND {1} = 1 THEN CAST(len({0}) AS INTEGER) END
array_length(anyarray, int4) int4 = CASE WHEN len({0}) > 0 AND {1} = 1 THEN CAST(len({0}) AS INTEGER) END
array_ndims(anyarray) int4 = CASE WHEN len({0}) > 0 THEN 1 END
cardinality(anyarray) int4 = CAST(len({0}) AS INTEGER)
array_position(anyarray, any) int4 = CAST(list_position({0}, {1}) AS INTEGER)
array_append(anyarray, any) same = list_append({0}, {1})
array_cat(anyarray, any) same = list_concat({0}, {1})
array_remove(anyarray, any) same = list_filter({0}, lambda e: e IS DISTINCT FROM {1})
abs(any) same = abs({0})
ceil(any) same = ceil({0})
ceiling(any) same = ceil({0})
floor(any) same = floor({0})
round(any) same = round({0})
round(numeric, int4) numeric = round({0}, {1})
mod(any, any) same = {0} % {1}
sign(any) same = sign({0})
sqrt(float8) float8 = CASE WHEN {0} >= 0 THEN sqrt({0}) END
to_json(any) json = to_json({0})
row_to_json(any) json = to_json({0})
array_to_json(any) json = to_json({0})
to_regclass(text) regclass = own_find('class', {0})
to_regtype(text) regtype = own_find('type', {0})
to_regnamespace(text) regnamespace = own_find('namespace', {0})
to_regrole(text) regrole = own_find('role', {0})
to_regproc(text) regproc = own_find('proc', {0})
date_trunc(text, timestamptz) timestamptz = date_trunc({0}, {1})
date_trunc(text, timestamp) timestamp = date_trunc({0}, {1})
encode(any, text) text = CAST(NULL AS VARCHAR)
bpchar(any) bpchar = CAST({0} AS VARCHAR)
text(any) text = CAST({0} AS VARCHAR)
"""
_AGGREGATES: Final = """
count() int8 = count(*)
count(any) int8 = count({0})
sum(int2) int8 = CAST(sum({0}) AS BIGINT)
sum(int4) int8 = CAST(sum({0}) AS BIGINT)
sum(int8) numeric = CAST(sum({0}) AS DECIMAL(38,0))
sum(numeric) numeric = sum({0})
sum(float4) float4 = CAST(sum({0}) AS FLOAT)
sum(float8) float8 = sum({0})
avg(float8) float8 = avg({0})
avg(numeric) numeric = CAST(avg({0}) AS DECIMAL(38,9))
min(any) same = min({0})
max(any) same = max({0})
bool_and(bool) bool = bool_and({0})
every(bool) bool = bool_and({0})
bool_or(bool) bool = bool_or({0})
string_agg(text, text) text = string_agg({0}, {1})
array_agg(any) array = array_agg({0})
json_agg(any) json = to_json(array_agg({0}))
"""
_WINDOWS: Final = """
row_number() int8 = row_number()
rank() int8 = rank()
dense_rank() int8 = dense_rank()
lag(any) same = lag({0})
lag(any, int4) same = lag({0}, {1})
lead(any) same = lead({0})
lead(any, int4) same = lead({0}, {1})
first_value(any) same = first_value({0})
last_value(any) same = last_value({0})
"""
ARRAY_OF: Final = -4
"""Result: the array type of the first argument."""
_SPECIAL: Final = {
    "any": ANY,
    "anyarray": ANY_ARRAY,
    "same": SAME,
    "element": ELEMENT,
    "array": ARRAY_OF,
    "void": 2278,
}
_LINE: Final = re.compile(r"(\w+)\((.*?)\) (\S+) = (.*)")


def find(name: str, arguments: Sequence[int]) -> Function | None:
    """The scalar overload that fits these argument types best."""
    return _best(_table(_SCALARS).get(name, ()), arguments)


def find_aggregate(name: str, arguments: Sequence[int]) -> Function | None:
    """The aggregate overload that fits these argument types best."""
    return _best(_table(_AGGREGATES).get(name, ()), arguments)


def find_window(name: str, arguments: Sequence[int]) -> Function | None:
    """The window function overload that fits these argument types best."""
    return _best(_table(_WINDOWS).get(name, ()), arguments)


def exists(name: str) -> bool:
    """Whether any overload has this name."""
    return any(name in _table(text) for text in (_SCALARS, _AGGREGATES, _WINDOWS))


def is_aggregate(name: str) -> bool:
    """Whether the name is an aggregate's."""
    return name in _table(_AGGREGATES)


def _best(overloads: Sequence[Function], arguments: Sequence[int]) -> Function | None:
    costs = [(function.takes(arguments), at) for at, function in enumerate(overloads)]
    fitting = [(cost, at) for cost, at in costs if cost is not None]
    return overloads[min(fitting)[1]] if fitting else None


def _cost(wanted: int, given: int) -> int | None:
    if given == wanted:
        return 0
    if wanted == ANY:
        return 2
    if given == UNKNOWN:
        return 1 if wanted == TEXT else 2
    if wanted == ANY_ARRAY:
        return 2 if _is_array(given) else None
    if comparable(wanted, given):
        return 1
    if _is_array(wanted) and _is_array(given):
        return 3
    # numeric and floats take integers; the preferred type last, as Postgres resolves it
    return 3 if wanted in (700, 701, 1700) and given in (20, 21, 23, 26, 700, 1700, 701) else None


def _is_array(oid: int) -> bool:
    return oid in _array_oids()


@cache
def _array_oids() -> frozenset[int]:
    return frozenset(kind.oid for kind in types().values() if kind.element)


@cache
def _table(text: str) -> dict[str, tuple[Function, ...]]:
    found: dict[str, tuple[Function, ...]] = {}
    for line in text.strip().splitlines():
        function = _function(line)
        found[function.name] = (*found.get(function.name, ()), function)
    return found


def _function(line: str) -> Function:
    match = _LINE.fullmatch(line)
    assert match is not None, line
    name, arguments, result, template = match.groups()
    words = [word for word in arguments.split(", ") if word]
    variadic = bool(words) and words[-1].startswith("variadic ")
    oids = tuple(_type_oid(word.removeprefix("variadic ")) for word in words)
    return Function(name, oids, variadic, _type_oid(result), template)


def _type_oid(word: str) -> int:
    if word in _SPECIAL:
        return _SPECIAL[word]
    kind = type_named(word)
    assert kind is not None, word
    return kind.oid
