"""Backups of the database: dumped, sealed in parts, kept in an object store, proven by restoring, removed when they are old."""
