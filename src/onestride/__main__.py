"""``python -m onestride``: the program."""

from onestride.cli import main

main()
