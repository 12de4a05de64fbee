"""Webhooks by the Standard Webhooks specification: customers' addresses, and messages that the worker delivers to them.

At least once, never promised in order; a message that is delivered twice carries the same id.
"""
