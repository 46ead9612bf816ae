"""Many strings looked for at once in a text that grows: the automaton of Aho & Corasick (1975).

    strings  he, she, hers                 a node for each beginning of a string
    text     u s h e r s                   after "ushe" the node is "she": the longest beginning that the text ends with
                   ▲ "she" and "he" end    one step a symbol, however many and long the strings are

Symbols are numbers: code points of text, or bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

WIDTH = 0x110000  #: symbols, at most
ROOT = 0  #: the node of the empty beginning


class Strings:
    """An automaton for strings, none of them empty. A node is a whole number, and belongs to the caller."""

    def __init__(self, strings: Iterable[Iterable[int]]) -> None:
        self._edges: dict[int, int] = {}  # node · WIDTH + symbol → node
        self.depths = [0]  #: of each node: how many symbols it stands for
        self.ends = [0]  #: of each node: symbols of the longest string that the text ends with there; 0: of none
        self.paths = [self._insert(string) for string in strings]  #: of each string: its nodes, the root first
        self.failures = [ROOT] * len(self.depths)  #: of each node: that of its longest end that is a beginning too
        self.order = self._link()  #: the nodes but for the root, the short beginnings first

    def step(self, node: int, symbol: int) -> int:
        """Return the node after one more symbol."""
        while (after := self._edges.get(node * WIDTH + symbol)) is None:
            if node == ROOT:
                return ROOT
            node = self.failures[node]
        return after

    def walk(self, node: int, symbols: Iterable[int]) -> int:
        """Return the node after some symbols."""
        for symbol in symbols:
            node = self.step(node, symbol)
        return node

    def _insert(self, string: Iterable[int]) -> list[int]:
        path = [ROOT]
        for symbol in string:
            node = self._edges.setdefault(path[-1] * WIDTH + symbol, len(self.depths))
            if node == len(self.depths):
                self.depths.append(len(path))
                self.ends.append(0)
            path.append(node)
        self.ends[path[-1]] = len(path) - 1
        return path

    def _link(self) -> list[int]:
        children: dict[int, list[tuple[int, int]]] = {}
        for key, node in self._edges.items():
            children.setdefault(key // WIDTH, []).append((key % WIDTH, node))
        order: list[int] = []
        queue = deque([ROOT])
        while queue:
            parent = queue.popleft()
            for symbol, node in children.get(parent, ()):
                self.failures[node] = self.step(self.failures[parent], symbol) if parent != ROOT else ROOT
                self.ends[node] = self.ends[node] or self.ends[self.failures[node]]
                order.append(node)
                queue.append(node)
        return order
