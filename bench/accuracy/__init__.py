"""How well: an architecture trained on measured images, held against what needs no training."""
