"""public: the worker that reads analyst text. Started as `python -m enclave.public`, imported by nobody."""
