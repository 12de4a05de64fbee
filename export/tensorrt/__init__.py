"""TensorRT plans from typed ONNX graphs, one builder for TensorRT 10, 11 and TensorRT-RTX.

`library` finds what is installed, `profiles` says which shapes a plan takes, `build` builds, `check` refuses what was not asked
for, `bundle_plan` puts a plan into a bundle. Nothing here is imported where plans are served.
"""
