"""Which model should I use? Quality, speed and memory side by side, and a choice.

`candidates` names what is compared, `measure` measures, `recommend` chooses.
"""
