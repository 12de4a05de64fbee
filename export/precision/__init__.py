"""Lower precision as part of the graph: bfloat16, float16 and 8-bit variants of a float32 ONNX file, and their proof.

`typed.write` is the door. `source` and `steps` read a graph, `assign` decides, `rewrite` writes casts and weights, `ranges`
measures, `quantise` adds 8-bit products, `agreement` compares answers.
"""
