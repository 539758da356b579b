"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# Machines are shared and slow at times: a test is judged by what it finds, not by how long it took.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
