"""Run folders, what they say, and what can be made of them: tables, intervals, figures."""
