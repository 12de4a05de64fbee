"""What opted-in customers let us keep: from the request's way out to raw objects, and back out again by deletion or retention.

`collect` runs beside the requests, `ship` and `sweep` in the worker, the rest under `vlaapi data` and `vlaapi storage`. Nothing
here may delay or fail a request; nothing is kept that the customer's data policy does not allow.
"""
