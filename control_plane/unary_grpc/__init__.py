"""gRPC calls of one message each way, over one connection, at a fifth of what a general library's cost. Knows no Triton."""
