"""Makes again, from PostgreSQL, what Redis held and can be made again."""
