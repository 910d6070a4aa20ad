"""A storm: bad inputs, kills at random moments and simultaneous runs, and what must hold after each of them."""
