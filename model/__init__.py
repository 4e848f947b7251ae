"""Spleeter's separation in PyTorch: tensors in, tensors out. No rows, no Ray, no storage."""
