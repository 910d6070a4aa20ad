"""Makes what the virtual card answers, for the suite's cells and for other steps: python -m tools.virtual_goldens."""
