"""Tables and figures of stored runs, in one style."""
