"""What a peak is made of: categories, operations, modules and lines; and PyTorch's snapshot of it."""
