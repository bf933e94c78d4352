#!/usr/bin/env python3
"""Prints the code blocks of a document, run by documents.bats.

    document-blocks.py FILE             prints the first line of each block
    document-blocks.py FILE LINE        prints the block with this first line,
                                        or whose first line begins with it

In Markdown a block is a run of lines that are indented by four columns more
than the paragraph before it: by four, or by seven in an item of a numbered
list. It is printed without its indentation.

In a manual page (FILE ends in a digit) a block is a literal display, or a line
of .Dl, which is printed without its prompt.
"""
import re
import sys


def markdown(lines):
    """Yields the lines of each block."""
    block, indent = [], 0
    for line in lines + ["end"]:
        depth = len(line) - len(line.lstrip(" "))
        if block and (line.strip() == "" or depth >= indent):
            block.append(line[indent:])
            continue
        if block:
            yield "\n".join(block).rstrip("\n").split("\n")
            block = []
        if line.strip() and depth >= 4:
            indent = 7 if depth >= 7 else 4
            block = [line[indent:]]


def manual(lines):
    """Yields the lines of each block."""
    block = None
    for line in lines:
        line = line.replace("\\e", "\\")
        if line.startswith(".Bd -literal"):
            block = []
        elif line.startswith(".Ed") and block is not None:
            yield block
            block = None
        elif block is not None:
            block.append(line)
        elif line.startswith(".Dl "):
            yield [re.sub("^[#$] ", "", line[len(".Dl "):])]


path, first = sys.argv[1], sys.argv[2:]
find = manual if path[-1].isdigit() else markdown
with open(path, encoding="utf-8") as file:
    found = list(find(file.read().split("\n")))
if not first:
    for block in found:
        print(block[0])
    sys.exit(0)
chosen = [block for block in found if block[0] == first[0]] or [
    block for block in found if block[0].startswith(first[0])]
if not chosen:
    sys.exit(f"{path} has no block that begins with: {first[0]}")
print("\n".join(chosen[0]))
