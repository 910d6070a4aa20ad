"""What holds of the paper's claims: each with the measured answer, as one page."""
