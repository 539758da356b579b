"""pgproxy: the Postgres face of the room. Sockets, sessions and bytes; no data, no keys."""
