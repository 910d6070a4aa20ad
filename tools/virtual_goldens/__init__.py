"""Makes what the virtual card answers for the suite's cells: python -m tools.virtual_goldens."""
