"""Any detector, instance segmenter or depth model as an ONNX file, described by a specialist.json beside it."""
