"""Which model should I use? Quality, speed and memory side by side, and a choice.

`candidates` names what is compared, `quality` and `costs` measure it, `rows` keeps what
was measured, `recommend` chooses under constraints, `survey` does it all.
"""
