"""Operators as callers: their own keys and roles, apart from customers' in every table, prefix and door."""
