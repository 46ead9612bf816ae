"""The commands of `chargen bulk`: score or continue the rows of many files."""
