"""Output for people: progress, tables and text. Only this package writes to terminals."""
