"""catalog_settings: what the room answers about run-time parameters, as pg_settings and current_setting show them.

The session's own SET and SHOW are the front's; these are the values that a session starts with.
"""

from __future__ import annotations

from typing import Any, Final

SERVER_VERSION: Final = "15.18"
SERVER_VERSION_NUM: Final = "150018"
VERSION: Final = f"PostgreSQL {SERVER_VERSION} (cleanroom)"
"""Drivers read "PostgreSQL" and the number; the parenthesis says who speaks."""

SETTINGS: Final[dict[str, str]] = {
    "application_name": "",
    "array_nulls": "on",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "client_min_messages": "notice",
    "DateStyle": "ISO, MDY",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "on",
    "extra_float_digits": "1",
    "in_hot_standby": "off",
    "integer_datetimes": "on",
    "IntervalStyle": "postgres",
    "is_superuser": "off",
    "jit": "off",
    "lc_collate": "C.UTF-8",
    "lc_ctype": "C.UTF-8",
    "lc_messages": "C.UTF-8",
    "lc_monetary": "C.UTF-8",
    "lc_numeric": "C.UTF-8",
    "lc_time": "C.UTF-8",
    "max_connections": "100",
    "max_identifier_length": "63",
    "max_index_keys": "32",
    "role": "none",
    "search_path": '"$user", public',
    "server_encoding": "UTF8",
    "server_version": SERVER_VERSION,
    "server_version_num": SERVER_VERSION_NUM,
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "TimeZone": "UTC",
    "transaction_isolation": "read committed",
    "transaction_read_only": "on",
}


def settings_rows() -> list[dict[str, Any]]:
    """The rows of pg_settings."""
    return [
        {
            "name": name,
            "setting": value,
            "category": "Client Connection Defaults",
            "short_desc": "",
            "context": "user",
            "vartype": "string",
            "source": "default",
            "boot_val": value,
            "reset_val": value,
            "pending_restart": False,
        }
        for name, value in SETTINGS.items()
    ]
