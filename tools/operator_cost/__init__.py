"""What an expensive operator costs each network: python -m tools.operator_cost."""
