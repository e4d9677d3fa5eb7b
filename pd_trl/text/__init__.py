"""Text for people: tables, and names that a line can show."""
