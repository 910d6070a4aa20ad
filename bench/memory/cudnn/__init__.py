"""cuDNN's workspaces: what its heuristics answer for a convolution on a card, live or from the shipped cache."""
