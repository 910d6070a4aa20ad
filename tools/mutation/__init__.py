"""Change the code in small ways and see whether a test notices (mutation testing); docs/MUTATION.md."""
