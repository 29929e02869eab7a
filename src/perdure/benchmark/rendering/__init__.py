"""What a grid found, as a page: tables, figures, and in short for the terminal."""
