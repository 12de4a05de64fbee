"""Invoices as a resource: drafting and closing a month, payments and corrections, documents, plans, commands and routes."""
