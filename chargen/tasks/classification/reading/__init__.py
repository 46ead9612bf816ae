"""Reading texts with labels: from folders, lines, tables and JSON."""
