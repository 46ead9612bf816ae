"""Generate text from a trained model.

generate.py        Generator: checks the settings and offers every method; read it first
decoding.py        the loops: draw one token id after another, for one text or for many
logits_rules.py    temperature, the sampling rules (top-k, top-p, …), softmax and the draw
sequence.py        one text: token ids to characters, and why it ends
processors.py      constraints and penalties that depend on the text so far
search.py          beam search, sequential Monte Carlo, infilling
prefix_cache.py    a prompt that was read, kept for the next prompt
"""
