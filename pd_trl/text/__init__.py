"""Text for people, such as tables and names that a line can show, and the times that servers write in headers."""
