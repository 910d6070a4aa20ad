"""A training step becomes a trace: what is allocated and freed, in order, for every batch size."""
