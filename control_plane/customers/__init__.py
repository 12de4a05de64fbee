"""Customers as a resource: the table, what can be done with them, and the commands that do it."""
