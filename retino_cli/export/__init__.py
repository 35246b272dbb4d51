"""Graders for use elsewhere: one ONNX file, or a folder that MLflow serves."""
