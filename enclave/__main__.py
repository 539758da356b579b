"""The keeper's process: started by `cleanroom serve` as `python -I -m enclave` with a socket pair."""
