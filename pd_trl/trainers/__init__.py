"""Drop-in subclasses of TRL's trainers."""
