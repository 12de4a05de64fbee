"""E-mail: written into an outbox in the caller's transaction, sent by the worker, at least once and with a stable Message-ID."""
