"""What LeRobot's policy families share: the checkpoint layout, both generations of normalisation, and the facts it leaves out.

Plain PyTorch and safetensors; LeRobot itself is never imported. `export.policies.act` and `export.policies.smolvla` use it.
"""
