"""PyTorch's caching allocator: its options, its blocks, its segments, and what it did."""
