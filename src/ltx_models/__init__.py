"""The LTX-2 model family, written once for PyTorch and MLX."""
