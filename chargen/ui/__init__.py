"""What people see: progress, tables, words. Only this floor knows of terminals."""
