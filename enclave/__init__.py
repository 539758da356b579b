"""enclave: the room. The keeper (gate, ledger, log, releases) and the two workers it starts."""
