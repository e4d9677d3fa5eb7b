"""The `pd-trl` command. Heavy imports are inside the command that needs them."""
