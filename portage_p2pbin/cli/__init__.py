"""The commands: each builds its objects, calls one use case, and maps errors to exit codes."""
