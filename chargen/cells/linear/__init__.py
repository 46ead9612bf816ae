"""Linear recurrences h' = a ∘ h + b: a and b depend on the input alone, so a window is computed by a parallel scan."""
