"""Backups as a person meets them: the control plane's commands, and a scratch PostgreSQL in which a backup is proven."""
