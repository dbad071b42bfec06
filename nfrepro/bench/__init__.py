"""Speed on this machine, by subject; how often verdicts are wrong; and what is true on a GPU."""
