"""Print 1,000 lines "label<TAB>text": sentences of Python's help, and lines of Python source code."""

import argparse
import inspect
import random
import re
import tarfile
from pydoc_data.topics import topics

help_text = re.sub(r"\s+", " ", " ".join(topics[name] for name in sorted(topics)))
prose = re.findall(r"[A-Z][a-z][^.:*=()_]{20,80}\.", help_text)
code = [line.strip() for module in (argparse, tarfile) for line in inspect.getsource(module).split("\n")]
code = [line for line in code if 20 <= len(line) <= 80 and not line.startswith("#")]

random.seed(1)
for label, texts in (("prose", prose), ("code", code)):
    for text in random.sample(sorted(set(texts)), 500):
        print(f"{label}\t{text}")
