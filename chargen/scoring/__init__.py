"""Score and evaluate texts: log probabilities, rankings, comparisons of models, and corrections."""
