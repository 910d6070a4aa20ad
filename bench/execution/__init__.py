"""Where cells run: processes side by side, devices, other machines; and how far they are."""
