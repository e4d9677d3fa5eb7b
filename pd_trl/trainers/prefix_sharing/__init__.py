"""Training on pairs with what their two sides share read once."""
