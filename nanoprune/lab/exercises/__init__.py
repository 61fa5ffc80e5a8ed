"""The exercises of the book: `python -m nanoprune.lab.exercises check 3` grades the third chapter's file.

An answer is compared with what shares no code with it: central differences, enumeration, loops, or a closed form.
"""

from nanoprune.lab.exercises.grading import Result, find_file, grade, report

__all__ = ["Result", "find_file", "grade", "report"]
