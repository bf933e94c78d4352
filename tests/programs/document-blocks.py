#!/usr/bin/env python3
"""Prints the code blocks of a Markdown document, run by documents.bats.

    document-blocks.py FILE             prints the first line of each block
    document-blocks.py FILE LINE        prints the block with this first line

A block is a run of lines that are indented by four columns more than the
paragraph before it: by four, or by seven in an item of a numbered list. It is
printed without its indentation.
"""
import re
import sys


def blocks(text):
    """Yields the lines of each block."""
    block, indent = [], 0
    for line in text.split("\n") + ["end"]:
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


path, first = sys.argv[1], sys.argv[2:]
with open(path, encoding="utf-8") as file:
    found = list(blocks(file.read()))
for block in found:
    if not first:
        print(block[0])
    elif re.fullmatch(re.escape(first[0]) + ".*", block[0]):
        print("\n".join(block))
        sys.exit(0)
if first:
    sys.exit(f"{path} has no block that begins with: {first[0]}")
