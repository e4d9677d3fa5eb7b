"""Training of one backbone with a head for each aspect."""
