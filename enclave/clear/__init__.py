"""clear: the engine over clear rows. Started as `python -m enclave.clear`, imported by nobody."""
