"""What strangers send, and what must not leave: schemas, media, secrets and keys."""
