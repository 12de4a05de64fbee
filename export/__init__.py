"""From a trained checkpoint to a policy that Triton can serve, with proof that it answers the same. torch and onnx live here."""
