"""Tests of the outbox of e-mails, against a real SMTP server."""
