"""What an installer types; docs/field-commands.md shows it. Each command is a module of its name.

A command's `add` declares its words, its `run` prints and returns an exit code.
"""

EXIT_OK = 0
EXIT_WRONG = 1
"""Something is wrong that the output names."""
EXIT_UNUSABLE = 2
"""The command or the configuration cannot be used."""
EXIT_NOT_RUNNING = 3
"""No agent is running (status)."""
