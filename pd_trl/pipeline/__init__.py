"""Recipes and their stages."""
