"""What a reward model of this library is made of: heads, what is saved beside the weights, and shared prefixes."""
