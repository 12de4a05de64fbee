"""OpenVLA in plain PyTorch: any size, from the published checkpoint layout to graphs that Triton can serve."""
