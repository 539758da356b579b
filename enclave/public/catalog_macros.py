"""catalog_macros: what the functions' templates share, defined in the engine before it is locked."""

from __future__ import annotations

from typing import Final

_NAME_KINDS: Final = ("class", "type", "namespace", "role", "proc", "none")
VARIABLES: Final = (
    *(
        f"""own_{kind} = (SELECT map(list("oid"), list("name")) FROM "own.names" WHERE "kind" = '{kind}')"""
        for kind in _NAME_KINDS
    ),
    *(
        f"""own_visible_{kind} = (SELECT map(list("oid"), list("visible")) FROM "own.names"
            WHERE "kind" = '{kind}')"""
        for kind in ("class", "type", "proc")
    ),
    *(
        f"""own_{part} = (SELECT map(list("oid"), list("{part}")) FROM "own.types")"""
        for part in ("base", "suffix", "form")
    ),
)
"""Names by OID, as maps: the engine allows no subquery in a lambda nor in some joins."""
MACROS: Final = (
    "own_now() AS getvariable('own_moment')",
    """own_reg(names, o) AS CASE WHEN o = 0 THEN '-' ELSE coalesce(names[o], CAST(o AS VARCHAR)) END""",
    """own_find(k, s) AS (SELECT min(n."oid") FROM "own.names" n WHERE n."kind" IN (k, k || ' alias')
        AND n."name" = regexp_replace(s, '^(pg_catalog|public)\\.', ''))""",
    """own_role(o) AS coalesce(getvariable('own_role')[o], 'unknown (OID=' || CAST(o AS VARCHAR) || ')')""",
    """own_setting(s) AS (SELECT any_value(x."setting") FROM "pg_catalog.pg_settings" x
        WHERE lower(x."name") = lower(s))""",
    """own_comment(o) AS (SELECT any_value(d."description") FROM "pg_catalog.pg_description" d
        WHERE d."objoid" = o AND d."objsubid" = 0)""",
    """own_description(o, c, n) AS (SELECT any_value(d."description") FROM "pg_catalog.pg_description" d
        JOIN "own.names" k ON k."kind" = 'class' AND k."oid" = d."classoid"
        WHERE d."objoid" = o AND d."objsubid" = n AND k."name" = c)""",
    """own_definition(o, n) AS (SELECT any_value(d."definition") FROM "own.definitions" d
        WHERE d."oid" = o AND d."number" = n)""",
    """own_format_type(o, m) AS CASE WHEN o IS NULL THEN NULL WHEN o = 0 THEN '-'
        ELSE coalesce(getvariable('own_base')[o] || CASE
            WHEN m IS NULL OR m < 4 THEN ''
            WHEN getvariable('own_form')[o] = 'length' THEN '(' || CAST(m - 4 AS VARCHAR) || ')'
            WHEN getvariable('own_form')[o] = 'scale' THEN '(' || CAST((m - 4) >> 16 AS VARCHAR) || ','
                || CAST((m - 4) & 65535 AS VARCHAR) || ')'
            ELSE '' END || getvariable('own_suffix')[o], '???') END""",
    """own_may(p) AS list_has_any(string_split(lower(replace(p, ' ', '')), ','),
        ['select', 'usage', 'connect', 'execute', 'member'])""",
    """own_quote_ident(s) AS CASE WHEN regexp_full_match(s, '[a-z_][a-z0-9_$]*') THEN s
        ELSE '"' || replace(s, '"', '""') || '"' END""",
    """own_substring(s, f, n) AS substring(s, greatest(f, 1), greatest(0, n + least(f, 1) - 1))""",
    """own_match(s, p) AS CASE WHEN regexp_matches(s, p) THEN regexp_extract(s, p) END""",
    """own_join(l, s) AS CASE WHEN l IS NULL OR s IS NULL THEN NULL
        ELSE coalesce(array_to_string(list_filter(l, lambda e: e IS NOT NULL), s), '') END""",
    """own_format(f, l) AS list_reduce(list_prepend(f, l), lambda a, e:
        regexp_replace(a, '%[sIL]', replace(coalesce(e, ''), '\\', '\\\\')))""",
    """own_array_out(l) AS '{' || array_to_string(list_transform(l, lambda e: CASE WHEN e IS NULL THEN 'NULL'
        WHEN regexp_full_match(e, '[^\\s",{}\\\\]+') AND upper(e) <> 'NULL' THEN e
        ELSE '"' || replace(replace(e, '\\', '\\\\'), '"', '\\"') || '"' END), ',') || '}'""",
)
"""Definitions shared by the templates; every name starts with `own_`, which no statement can reach."""
