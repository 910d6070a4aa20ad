"""Makes the transcripts of docs/ANY-STEP.md: python -m tools.any_step."""
