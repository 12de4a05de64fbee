"""Where a test can run: those of the exporter need torch and ONNX Runtime, which the application's environment does not have."""

import importlib.util

_NEEDS = {
    "onnxruntime": ["test_verify.py", "test_onnx_file.py"],
    "torch": ["test_onnx.py", "test_publish.py", "test_policies_tabletop.py", "test_main.py", "precision", "tensorrt"],
    "tritonclient": ["test_main.py", "test_served_bundle.py", "test_triton_config.py"],
}

collect_ignore = [name for module, files in _NEEDS.items() if importlib.util.find_spec(module) is None for name in files]
