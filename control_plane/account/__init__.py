"""What customers see and change of their own with a key, and what operators see and change of customers, over HTTP.

Endpoints and the queries that only they need; what happens to a customer or a key is in those rooms' verbs.
"""
