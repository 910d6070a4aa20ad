"""PyTorch's own compiled caching allocator, run without a GPU: what bench.memory's replay is held against."""
