"""The report on the claims, from stored results alone: verdicts, numbers and figures, as JSON, Markdown and a page."""
