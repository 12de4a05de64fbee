"""Tests of customers' own affairs, and of operators' view of them, over HTTP."""
