"""Output for people: progress, tables and text. Only this package depends on the terminal."""
