"""What tries the answers to the exercises: one module a notebook.

Each has ``CHECKERS``, from an exercise's number to a function that takes an answer and
returns a hint; an empty one means that it is right.
"""
