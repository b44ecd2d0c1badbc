"""The subcommands of `adadiffsr`: each adds its arguments to the parser and has a `run` that takes them."""
