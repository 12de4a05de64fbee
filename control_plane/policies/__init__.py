"""The policies (learned models) that are served: their manifests, their tensors, whether they answer, and `GET /v1/models`.

Knows no request of a customer and no safety rule.
"""
