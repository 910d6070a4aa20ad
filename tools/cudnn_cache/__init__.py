"""Makes the answers of cuDNN that travel with bench: python -m tools.cudnn_cache."""
